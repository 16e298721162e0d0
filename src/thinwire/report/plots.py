"""The report's figures as SVG text.

Each function draws one figure with matplotlib (imported only then, without a window) and returns
it as a standalone ``<svg>`` element on a transparent ground.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from .formatting import data_size
from .labels import with_unique_labels
from .run import Run, number
from .series import (
    AXES,
    METRICS,
    Axis,
    Metric,
    Points,
    axis_wants_log,
    epoch_points,
    residual_points,
    step_points,
    wants_log,
)
from .style import INK, MARKERS, figure_style, plain_ticks, run_colours, to_svg
from .text import clean_text, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESIDUAL_WARN = 8.0
"""Above this ratio of residual to gradient norm the trainer warns."""

_SIZE = (5.4, 3.3)  # inches


def curves_svg(runs: Sequence[Run], metric: Metric, axis: Axis, legend: bool = True) -> str:
    """Draw a metric of all runs against an axis.

    Thin lines are training averages between step events, markers the test set after each epoch.

    Args:
        runs: The runs, in the order which decides their colours.
        metric: What to draw, one of `METRICS`.
        axis: Against what, one of `AXES`.
        legend: Whether to name the runs (a page names them once for all figures).
    """
    with figure_style(f"{metric.key}-{axis.key}"):
        figure, axes = _new_figure()
        log_x = axis_wants_log(runs, axis)
        heights: list[float] = []
        for run, colour, marker in zip(runs, run_colours(len(runs)), cycle(MARKERS)):
            train = _drawable(step_points(run, metric, axis), log_x)
            test = _drawable(epoch_points(run, metric, axis), log_x)
            _line(axes, train, color=colour, linewidth=0.9, alpha=0.6)
            _line(
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
        axes.set_ylabel(metric.title)
        if legend:
            _legend(figure, runs)
        return to_svg(figure, f"{metric.title} against {axis.title}")


def all_curves(runs: Sequence[Run], legend: bool = True) -> dict[tuple[str, str], str]:
    """Every metric against every axis.

    Returns:
        SVG text by (axis key, metric key), such as ``("bytes", "error")``.
    """
    return {
        (axis.key, metric.key): curves_svg(runs, metric, axis, legend)
        for axis in AXES
        for metric in METRICS
    }


def residual_svg(runs: Sequence[Run], legend: bool = True) -> str | None:
    """Draw the largest residual ratio over steps, with the line above which the trainer warns.

    Returns:
        SVG text, or None when no run has residual ratios (nothing is quantised).
    """
    curves = [residual_points(run) for run in runs]
    if not any(curves):
        return None
    with figure_style("residual"):
        figure, axes = _new_figure()
        for points, colour in zip(curves, run_colours(len(runs)), strict=True):
            _line(axes, points, color=colour, linewidth=1.1)
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
        axes.set_ylabel("residual / gradient (largest)")
        if legend:
            _legend(figure, runs)
        return to_svg(figure, "residual ratio over steps")


def traffic_svg(runs: Sequence[Run], legend: bool = True) -> str | None:
    """Draw the bytes each worker sent, by stage, as bars.

    Returns:
        SVG text, or None when no run has told its traffic.
    """
    by_stage = [traffic_bytes(run) for run in runs]
    stages = list(dict.fromkeys(stage for traffic in by_stage for stage in traffic))
    if not stages:
        return None
    with figure_style("traffic"):
        rows = len(stages) * len(runs)
        figure, axes = _new_figure(height=1.1 + 0.26 * rows + 0.2 * len(stages))
        thickness = 0.8 / len(runs)
        for index, colour in enumerate(run_colours(len(runs))):
            traffic = by_stage[index]
            places = [place for place, stage in enumerate(stages) if stage in traffic]
            heights = [place - 0.4 + thickness * (index + 0.5) for place in places]
            counts = [traffic[stages[place]] for place in places]
            widths = [count / 1e6 for count in counts]
            bars = axes.barh(heights, widths, height=thickness * 0.85, color=colour)
            axes.bar_label(bars, [data_size(count) for count in counts], padding=4)
        axes.set_yticks(range(len(stages)), [shorten(stage, 24) for stage in stages])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
        axes.set_xlabel("MB sent per worker")
        plain_ticks(axes, "x")
        if legend:
            _legend(figure, runs)
        return to_svg(figure, "bytes sent per worker, by stage")


def traffic_bytes(run: Run) -> dict[str, float]:
    """Bytes sent by this worker, by stage; entries which are not understood are left out."""
    found: dict[str, float] = {}
    traffic = run.result.get("traffic")
    for entry in traffic if isinstance(traffic, list) else ():
        count = number(entry, "bytes") if isinstance(entry, dict) else None
        if count is not None and count >= 0:
            stage = clean_text(entry.get("stage", "unnamed"))
            found[stage] = found.get(stage, 0.0) + count
    return found


def _new_figure(height: float = _SIZE[1]) -> tuple[Figure, Axes]:
    # Figure itself and not pyplot: no window, no global list of figures, no change of backend.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_SIZE[0], height), layout="constrained")
    return figure, figure.add_subplot()


def _drawable(points: Points, log_x: bool) -> Points:
    return [point for point in points if point[0] > 0] if log_x else points


def _line(axes: Axes, points: Points, **look: object) -> None:
    if len(points) == 1:
        look = {**look, "marker": "o", "markersize": 4}  # a line of one point does not show
    axes.plot([x for x, _ in points], [y for _, y in points], **look)  # type: ignore[arg-type]


def _legend(figure: Figure, runs: Sequence[Run]) -> None:
    from matplotlib.lines import Line2D

    labels = [run.label for run in with_unique_labels(runs)]
    handles = [Line2D([], [], color=colour) for colour in run_colours(len(runs))]
    columns = 1 if max(map(len, labels)) > 30 else math.ceil(len(labels) / 4)
    # Placeholders first: a legend leaves out labels that begin with an underscore.
    names = ["run"] * len(labels)
    figure.set_figheight(figure.get_figheight() + 0.22 * math.ceil(len(labels) / columns))
    legend = figure.legend(handles, names, loc="outside upper left", ncols=columns)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(shorten(label, 60))
