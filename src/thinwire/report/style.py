"""The look of the figures: colours of runs, plain ticks, and SVG text that is always the same."""

from __future__ import annotations

import colorsys
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#767676"  # reads equally well (4.5 : 1) on white and on black

# Middle tones, told apart by lightness as well as by hue; they stand on white and on near black.
_COLOURS = ("#2b7bba", "#d9601a", "#2a9d74", "#b5539c", "#a8820f", "#6f63d2", "#c8374b", "#3f98a8")

# A shape per run as well as a colour: dots of runs that agree lie on each other.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")

_RC: dict[str, Any] = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.alpha": 0.25,
    "grid.color": INK,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.facecolor": "none",
    # Real text: small files, and the page's own font. Names must not be read as formulas.
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def run_colours(count: int) -> list[str]:
    """One colour per run, in order and always the same, as ``#rrggbb``."""
    colours = list(_COLOURS[:count])
    for index in range(count - len(colours)):
        # Golden-ratio steps around the colour circle stay apart however many there are.
        red, green, blue = colorsys.hls_to_rgb((0.05 + index * 0.618034) % 1, 0.48, 0.55)
        colours.append(f"#{int(red * 255):02x}{int(green * 255):02x}{int(blue * 255):02x}")
    return colours


@contextmanager
def figure_style(salt: str) -> Iterator[None]:
    """Matplotlib's defaults with the report's changes, whatever the user has set.

    Args:
        salt: Makes the ids inside the SVG; figures of one page need different ones.
    """
    import matplotlib
    from matplotlib import style

    with matplotlib.rc_context(), style.context(["default", {**_RC, "svg.hashsalt": salt}]):
        yield


def to_svg(figure: Figure, about: str) -> str:
    """Draw a figure as one ``<svg>`` element, which is a file of its own or part of a page.

    No date, no generator and no style sheet is left in it: equal figures give equal text, and
    nothing inside reaches the page around it. Names in it are escaped by matplotlib.

    Args:
        figure: The figure, made within `figure_style`.
        about: What it shows, in plain words for those who cannot see it.
    """
    buffer = io.StringIO()
    unset = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with warnings.catch_warnings():
        # Text is measured with a font that lacks some scripts; the browser draws it with its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", metadata=unset)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>", "", svg, count=1)
    look = f'role="img" aria-label={quoteattr(about)} stroke-linejoin="round"'
    svg = svg.replace("<svg ", f"<svg {look} ", 1)
    # Group ids are the same in every figure and nothing refers to them.
    return re.sub(r'<g id="[^"]*"', "<g", svg)


def plain_ticks(axes: Axes, which: str = "xy") -> None:
    """Label the axes with plain numbers: ``0.01`` and ``20,000``, not powers of ten.

    Call it last, when limits and scales are set.

    Args:
        axes: The axes to change.
        which: ``"x"``, ``"y"`` or ``"xy"``.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    limits = {"x": (axes.xaxis, axes.get_xlim()), "y": (axes.yaxis, axes.get_ylim())}
    for axis, (low, high) in (limits[name] for name in which):
        if axis.get_scale() == "log":
            # Less than two and a half decades leave room for the steps between.
            subs = (1.0, 2.0, 5.0) if high < 300 * low else (1.0,)
            axis.set_major_locator(LogLocator(subs=subs))
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
