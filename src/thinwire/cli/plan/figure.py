"""The plan as a figure, in the look of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from thinwire.cli.plan.answers import Answers
from thinwire.cli.plan.prediction import Prediction
from thinwire.report.canvas import draw_line, new_figure
from thinwire.report.series import Points
from thinwire.report.style import INK, MARKERS, figure_style, plain_ticks, run_colours, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def speed_svg(prediction: Prediction, k_hats: Mapping[str, float]) -> str:
    """Samples a second, speed-up and efficiency over workers, as SVG text.

    Args:
        prediction: what to draw.
        k_hats: workers at K-hat, by method; marked where they lie on the axis.
    """
    speeds = _points(prediction)
    pace, last = prediction.pace_alone, prediction.workers[-1]
    with figure_style("plan"):
        figure, _ = new_figure(height=6.2)
        figure.clear()
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        ideal = [prediction.workers, [k / pace / 1e3 for k in prediction.workers]]
        upper.plot(*ideal, color=INK, linestyle="--", linewidth=1, label="perfect scaling")
        colours = dict(zip(speeds, run_colours(len(speeds)), strict=True))
        _draw(upper, {name: [(k, y / 1e3) for k, y in line] for name, line in speeds.items()})
        _draw(lower, {name: [(k, 100 * y * pace / k) for k, y in p] for name, p in speeds.items()})
        for name, k_hat in k_hats.items():
            if 1 < k_hat <= last:
                upper.axvline(k_hat, color=colours[name], linestyle=":", linewidth=1.2)
        upper.set_yscale("log")
        upper.set_ylabel(f"1000 samples/s, minibatch {prediction.minibatch:,}")
        plain_ticks(upper, "y")
        scale = 1e3 * pace
        functions = (lambda y: y * scale, lambda gain: gain / scale)
        gain = upper.secondary_yaxis("right", functions=functions)
        gain.set_ylabel("speed-up")
        gain.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        lower.set_ylabel("efficiency (%)")
        lower.set_ylim(bottom=0)
        _label_workers(lower, prediction.workers)
        figure.legend(*upper.get_legend_handles_labels(), loc="outside upper left", ncols=3)
        return to_svg(figure, "predicted samples/s, speed-up and efficiency against workers")


def target_svg(answers: Answers, target: float, metric: str) -> str:
    """Time to the target over workers, SGD and Hessian-free on one axis, as SVG text."""
    lines = {
        name: [(float(k), a.seconds) for k, a in zip(answers.workers, found, strict=True) if a]
        for name, found in answers.by_method.items()
    }
    with figure_style("plan-target"):
        figure, axes = new_figure(height=3.9)
        _draw(axes, lines)
        axes.set_yscale("log")
        axes.set_ylabel(f"seconds to {target:g} % {metric} error")
        plain_ticks(axes, "y")
        _label_workers(axes, answers.workers)
        figure.legend(loc="outside upper left", ncols=3)
        return to_svg(figure, f"predicted seconds to {target:g} % {metric} error against workers")


def _points(prediction: Prediction) -> dict[str, Points]:
    """(workers, samples/s) by method."""
    return {
        method.name: [
            (float(k), step.samples_per_second)
            for k, step in zip(prediction.workers, steps, strict=True)
            if step is not None
        ]
        for method, steps in prediction.steps.items()
    }


def _draw(axes: Axes, lines: Mapping[str, Points]) -> None:
    looks = zip(run_colours(len(lines)), MARKERS, lines.items(), strict=False)
    for colour, marker, (name, points) in looks:
        look = {"linewidth": 1.4, "marker": marker, "markersize": 4}
        draw_line(axes, points, color=colour, label=name, **look)


def _label_workers(axes: Axes, workers: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(workers, [f"{k:,}" for k in workers])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("workers (dotted: K-hat)" if len(axes.figure.axes) > 1 else "workers")
