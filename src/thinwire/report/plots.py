"""The report's figures as SVG text.

Each function draws one figure with matplotlib (imported only then, without a window) and returns
it as a standalone ``<svg>`` element on a transparent ground.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from thinwire.report.canvas import add_legend, draw_line, new_figure
from thinwire.report.metrics import Metric, metrics_of
from thinwire.report.run import Run
from thinwire.report.series import (
    AXES,
    Axis,
    Points,
    axis_wants_log,
    epoch_points,
    residual_points,
    train_points,
    wants_log,
)
from thinwire.report.style import INK, MARKERS, figure_style, plain_ticks, run_colours, to_svg

RESIDUAL_WARN = 8.0
"""Above this |residual| / |input| of stage 2 the trainer warns (its ``UNHEALTHY_RATIO``)."""


def curves_svg(runs: Sequence[Run], metric: Metric, axis: Axis, legend: bool = True) -> str:
    """Draw a metric of all runs against an axis.

    Thin lines are the training samples, markers the test set at each evaluation.

    Args:
        runs: The runs, in the order which decides their colours.
        metric: What to draw, one of `metrics_of` the runs.
        axis: Against what, one of `AXES`.
        legend: Whether to name the runs (a page names them once for all figures).
    """
    with figure_style(f"{metric.key}-{axis.key}"):
        figure, axes = new_figure()
        log_x = axis_wants_log(runs, axis)
        heights: list[float] = []
        for run, colour, marker in zip(runs, run_colours(len(runs)), cycle(MARKERS)):
            train = _drawable(train_points(run, metric, axis), log_x)
            test = _drawable(epoch_points(run, metric, axis), log_x)
            draw_line(axes, train, color=colour, linewidth=0.9, alpha=0.6)
            draw_line(
                axes,
                test,
                color=colour,
                linewidth=0.9,
                linestyle=":",
                marker=marker,
                markersize=4.5,
            )
            heights += [y for _, y in train + test]
        if wants_log(heights):
            axes.set_yscale("log", nonpositive="mask")
        if log_x:
            axes.set_xscale("log")
        plain_ticks(axes)
        axes.set_xlabel(axis.title + (" (log scale)" if log_x else ""))
        axes.set_ylabel(metric.label)
        if legend:
            add_legend(figure, runs)
        return to_svg(figure, f"{metric.label} against {axis.title}")


def all_curves(runs: Sequence[Run], legend: bool = True) -> dict[tuple[str, str], str]:
    """Every metric against every axis.

    Returns:
        SVG text by (axis key, metric key), such as ``("bytes", "error")``.
    """
    return {
        (axis.key, metric.key): curves_svg(runs, metric, axis, legend)
        for axis in AXES
        for metric in metrics_of(runs)
    }


def residual_svg(runs: Sequence[Run], legend: bool = True) -> str | None:
    """Draw the residual ratios over steps, with the line above which the trainer warns.

    Solid lines are stage 2 (owners), to which the warning applies; thin ones stage 1 (workers).

    Returns:
        SVG text, or None when no run has residual ratios (nothing is quantised).
    """
    curves = [(residual_points(run, 0), residual_points(run, 1)) for run in runs]
    if not any(workers or owners for workers, owners in curves):
        return None
    with figure_style("residual"):
        figure, axes = new_figure()
        for (workers, owners), colour in zip(curves, run_colours(len(runs)), strict=True):
            draw_line(axes, workers, color=colour, linewidth=0.7, alpha=0.6)
            draw_line(axes, owners, color=colour, linewidth=1.4)
        axes.axhline(RESIDUAL_WARN, color=INK, linestyle="--", linewidth=1)
        axes.annotate(
            f"warns above {RESIDUAL_WARN:g}",
            (1, RESIDUAL_WARN),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
        )
        axes.set_ylim(bottom=0)
        plain_ticks(axes)
        axes.set_xlabel("step")
        axes.set_ylabel("residual / input (largest)")
        if legend:
            add_legend(figure, runs)
        return to_svg(figure, "residual ratio over steps")


def _drawable(points: Points, log_x: bool) -> Points:
    return [point for point in points if point[0] > 0] if log_x else points
