"""The plan as figures, in the look of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from thinwire.plan.planner import Plan
from thinwire.plan.prediction import Prediction
from thinwire.plan.time_to_target import TimesToTarget
from thinwire.report.canvas import draw_line, new_figure
from thinwire.report.series import Points
from thinwire.report.style import INK, MARKERS, figure_style, plain_ticks, run_colours, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def figures(plan: Plan) -> dict[str, str]:
    """Draw a plan: speeds for each minibatch size, and times to the goal if there is one.

    Returns:
        SVG text by what tells the figures' files apart: nothing for the speeds at a single
        minibatch size, "-1024" and so on where there are several, "-target" for the times.
    """
    several = len(plan.predictions) > 1
    drawn = {f"-{p.minibatch}" if several else "": speed_svg(p) for p in plan.predictions}
    if plan.times is not None:
        drawn["-target"] = target_svg(plan.times)
    return drawn


def speed_svg(prediction: Prediction) -> str:
    """Draw samples a second, speed-up and efficiency over workers, and K-hat where it is known."""
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
        for method, k_hat in prediction.k_hats.items():
            if k_hat is not None and 1 < k_hat <= last:
                upper.axvline(k_hat, color=colours[method.name], linestyle=":", linewidth=1.2)
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


def target_svg(times: TimesToTarget) -> str:
    """Draw the time to the goal over workers, SGD and Hessian-free on one axis."""
    goal = times.fitted.goal.words
    lines = {
        name: [(float(k), a.seconds) for k, a in zip(times.workers, found, strict=True) if a]
        for name, found in times.by_method.items()
    }
    with figure_style("plan-target"):
        figure, axes = new_figure(height=3.9)
        _draw(axes, lines)
        axes.set_yscale("log")
        axes.set_ylabel(f"seconds to {goal}")
        plain_ticks(axes, "y")
        _label_workers(axes, times.workers)
        figure.legend(loc="outside upper left", ncols=3)
        return to_svg(figure, f"predicted seconds to {goal} against workers")


def _points(prediction: Prediction) -> dict[str, Points]:
    """(workers, samples/s) by method."""
    return {
        method.name: [(float(k), step.samples_per_second) for k, step in prediction.made(method)]
        for method in prediction.methods
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
