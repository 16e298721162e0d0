"""What all figures share: an empty plot, a line on it, and the names of the runs above it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from thinwire.report.labels import with_unique_labels
from thinwire.report.run import Run
from thinwire.report.series import Points
from thinwire.report.style import run_colours
from thinwire.report.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 5.4, 3.3  # inches


def new_figure(height: float = _HEIGHT) -> tuple[Figure, Axes]:
    """An empty plot; ``height`` in inches. Call it within `figure_style`."""
    # Figure itself and not pyplot: no window, no global list of figures, no change of backend.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def draw_line(axes: Axes, points: Points, **look: object) -> None:
    """Draw a curve; ``look`` is what matplotlib's ``plot`` takes."""
    if len(points) == 1:
        look = {"marker": "o", "markersize": 4.5, **look}  # a line of one point does not show
    axes.plot([x for x, _ in points], [y for _, y in points], **look)  # type: ignore[arg-type]


def add_legend(figure: Figure, runs: Sequence[Run]) -> None:
    """Name the runs and their colours above the plot, which keeps its height."""
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
