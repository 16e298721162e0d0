"""The plan as a figure, in the look of the report."""

from thinwire.cli.plan.answers import Answers
from thinwire.cli.plan.prediction import Prediction
from thinwire.report.canvas import draw_line, new_figure
from thinwire.report.series import Points
from thinwire.report.style import INK, MARKERS, figure_style, plain_ticks, run_colours, to_svg


def speed_svg(prediction: Prediction) -> str:
    """Samples a second over workers, with what perfect scaling would give, as SVG text."""
    lines: dict[str, Points] = {}
    for method, steps in prediction.steps.items():
        points = zip(prediction.workers, steps, strict=True)
        lines[method.name] = [(float(k), s.samples_per_second) for k, s in points if s is not None]
    ideal = [(float(k), k * prediction.minibatch / prediction.alone) for k in prediction.workers]
    about = f"samples/s, minibatch {prediction.minibatch:,}"
    return _svg(lines, about, ("perfect scaling", ideal))


def target_svg(answers: Answers, target: float, metric: str) -> str:
    """Time to the target over workers, SGD and Hessian-free on one axis, as SVG text."""
    lines = {
        name: [
            (float(k), a.seconds)
            for k, a in zip(answers.workers, found, strict=True)
            if a is not None
        ]
        for name, found in answers.by_method.items()
    }
    return _svg(lines, f"seconds to {target:g} % {metric} error", None)


def _svg(lines: dict[str, Points], title: str, reference: tuple[str, Points] | None) -> str:
    with figure_style("plan"):
        figure, axes = new_figure(height=3.9)
        if reference is not None:
            name, points = reference
            axes.plot(
                *zip(*points, strict=True), color=INK, linestyle="--", linewidth=1, label=name
            )
        looks = zip(run_colours(len(lines)), MARKERS * 2, lines.items(), strict=False)
        for colour, marker, (name, points) in looks:
            look = {"linewidth": 1.4, "marker": marker, "markersize": 4}
            draw_line(axes, points, color=colour, label=name, **look)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("workers")
        axes.set_ylabel(title)
        axes.set_xticks([x for x, _ in max(lines.values(), key=len)], minor=False)
        plain_ticks(axes, "y")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        figure.legend(loc="outside upper left", ncols=2)
        return to_svg(figure, f"predicted {title} against workers")
