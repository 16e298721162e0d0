"""Drawing figures from results: one look, colours that mean the same everywhere, small PNG files.

The same results give the same bytes: no date, no version and no random id is in a file.
"""

import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.timing import Range
from thinwire.report.style import INK

Drawing = tuple[Figure, str]
"""A figure, and what it shows in words."""

# Okabe and Ito's colours, told apart by colour-blind readers.
BLUE, ORANGE, GREEN, PINK, BROWN, SKY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#a6761d",
    "#56b4e9",
)
GREY = "#555555"
CONTENDERS = {
    "dense": GREY,
    "dense, Muon": "#a0a0a0",
    "fp16": SKY,
    "bare loop sign": "#7d9fb5",
    "thinwire sign": BLUE,
    "thinwire 4-bit": GREEN,
    "thinwire hook": GREEN,
    "thinwire rotated": ORANGE,
    "thinwire hook, 1 bit": SKY,
    "thinwire optimiser": BLUE,
    "thinwire optimiser, Muon": "#4b9fd1",
    "thinwire local steps": "#111111",
    "thinwire local steps, 4 bits": "#d4a000",
    "thinwire local steps, 4 bits, Muon": "#b3001b",
    "PowerSGD rank 1": PINK,
    "PowerSGD rank 2": "#b0629a",
    "PowerSGD rank 4": "#8a4a78",
    "PowerSGD rank 8": "#5c3350",
    "DeMo": "#8f9b00",
    "DiLoCo": ORANGE,
    "DiLoCo, 8 bits": "#e8503a",
    "SparseLoCo": "#7a4a12",
    "Hessian-free, Gauss-Newton": BROWN,
    "Hessian-free, Bi-CG-STAB": "#6f63d2",
}

DPI, PALETTE = 110, 128  # colours in a file


def panels(
    columns: int, width: float, height: float, rows: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure of so many inches and its ``[rows, columns]`` axes."""
    options = {"figsize": (width, height), "layout": "constrained", "squeeze": False} | options
    return plt.subplots(rows, columns, **options)


def bar(axes: Axes, place: int, value: Range, name: str) -> None:
    """Draw the bar of a contender: its median, and from the smallest to the largest."""
    median, low, high = value
    axes.barh(place, median, color=CONTENDERS.get(name, INK), height=0.65, zorder=2)
    error = [[median - low], [high - median]]
    axes.errorbar(median, place, xerr=error, color=INK, capsize=3, linewidth=1, zorder=3)


def name_bars(axes: Axes, names: list[str]) -> None:
    """Write the names of the bars beside them, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def note(axes: Axes, words: str, at: tuple[float, float], **options: Any) -> None:
    """Write words a little to the right of a point."""
    options = {"xytext": (5, -3), "textcoords": "offset points", "size": 8.5} | options
    axes.annotate(words, at, **options)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file of few colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    with Image.open(buffer) as image:
        few = image.convert("RGB").quantize(PALETTE, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
