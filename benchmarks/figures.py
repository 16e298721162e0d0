"""Draw docs/results from benchmarks/results: SVG and PNG figures, and one HTML page of all results.

    python -m benchmarks.figures [--out docs/results]

What there are no results of is left out, with a line that says which command makes them.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import lab_figures, method_figures, planner_figures, record, results_page
from benchmarks.lab_figures import Drawing
from thinwire.report.style import INK, figure_style, plain_ticks, to_svg

OUT = Path(__file__).parents[1] / "docs" / "results"

# Okabe and Ito's colours, told apart by colour-blind readers; every point has its words as well.
BLUE, ORANGE, GREEN, PINK, BROWN, SKY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#a6761d",
    "#56b4e9",
)
GREY = "#555555"

# Name of the run -> what its point is called, its colour, and where the words stand (points).
Label = tuple[str, str, tuple[float, float]]
LM: dict[str, Label] = {
    "lm float32": ("float32", GREY, (-8, -14)),
    "lm fp16": ("fp16 hook", SKY, (-20, -14)),
    "lm sign": ("sign", BLUE, (-28, -3)),
    "lm rotated": ("rotated", ORANGE, (-46, 2)),
    "lm owner AdamW": ("sign, AdamW at owner", BLUE, (-110, -10)),
    "lm bits 1/4": ("bits 1/4", GREEN, (-30, -15)),
    "lm bits 4/4": ("bits 4/4", GREEN, (-4, -15)),
    "lm sign, start 20 %": ("sign, start 20 %", BLUE, (9, 2)),
    "lm 1-bit Adam": ("1-bit Adam, start 20 %", PINK, (9, -4)),
}
LM_09: dict[str, Label] = {
    "lm float32, beta1 0.9": ("float32", GREY, (-14, 8)),
    "lm sign, beta1 0.9": ("sign", BLUE, (-28, -3)),
    "lm bits 4/4, beta1 0.9": ("bits 4/4", GREEN, (-46, 3)),
    "lm sign, start 20 %, beta1 0.9": ("sign, start 20 %", BLUE, (8, -3)),
    "lm 1-bit Adam, beta1 0.9": ("1-bit Adam, start 20 %", PINK, (8, -3)),
}
CODES = {"float32": GREY, "sign": BLUE, "rotated": ORANGE, "4-bit": GREEN}
MNIST = {
    "mnist m 0.9": ("momentum 0.9", "s"),
    "mnist m 0.66": ("momentum 0.66", "o"),
    "mnist no feedback": ("momentum 0.66, no error feedback", "X"),
    "mnist recipe": ("recipe mnist-onebit", "^"),
}


def scatter(axes: Axes, runs: dict[str, Any], labels: dict[str, Label], hollow: bool) -> None:
    """One point and its words for each run."""
    for name, (words, colour, offset) in labels.items():
        x, y = runs[name]["bytes"] / 1e6, runs[name]["loss"]
        face = "white" if hollow else colour
        axes.scatter(x, y, s=46, facecolor=face, edgecolor=colour, linewidth=1.6, zorder=3)
        axes.annotate(words, (x, y), offset, textcoords="offset points", color=colour, fontsize=8.5)


def draw_lm(axes: Axes, runs: dict[str, Any]) -> None:
    """The transformer: beta1 0.5 filled, 0.9 hollow."""
    scatter(axes, runs, LM, hollow=False)
    scatter(axes, runs, LM_09, hollow=True)
    for words, face in (("beta1 0.5", INK), ("beta1 0.9", "white")):
        axes.scatter([], [], s=46, facecolor=face, edgecolor=INK, linewidth=1.6, label=words)
    axes.legend(loc="upper right")
    axes.set(xscale="log", xlim=(40, 1500), xlabel="MB sent per worker")
    axes.set_ylabel("held-out loss (nats per character)")
    axes.set_title("Transformer, AdamW at lr 0.003, 4 workers, 600 steps", fontsize=10)
    plain_ticks(axes)


def draw_mnist(axes: Axes, runs: dict[str, Any]) -> None:
    """The perceptron: colour is the code, shape the setting."""
    for prefix, (_, marker) in MNIST.items():
        points = [
            (runs[name]["bytes"] / 1e6, runs[name]["test error %"], code)
            for code in CODES
            if (name := f"{prefix}, {code}") in runs
        ]
        points.sort()
        axes.plot(*list(zip(*points, strict=True))[:2], color=INK, linewidth=0.7, alpha=0.5)
        for x, y, code in points:
            axes.scatter(x, y, s=52, marker=marker, color=CODES[code], zorder=3)
    for words, marker in MNIST.values():
        axes.scatter([], [], s=46, marker=marker, color=INK, label=words)
    for code, colour in CODES.items():
        axes.scatter([], [], s=46, marker="_", linewidth=4, color=colour, label=code)
    axes.legend(loc="upper right", fontsize=8.5)
    axes.set(xscale="log", yscale="log", xlabel="MB sent per worker")
    axes.set_ylabel("test error (%)")
    axes.set_title("MNIST perceptron, OneBitSGD, 2 workers, 5 epochs", fontsize=10)
    plain_ticks(axes)


def draw_frontier(runs: dict[str, Any]) -> Drawing | None:
    """Both panels; None unless all of the left one's runs are there."""
    if not {*LM, *LM_09} <= set(runs):
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    draw_lm(left, runs)
    draw_mnist(right, runs)
    return figure, "Loss against megabytes sent per worker, for every code, on two tasks."


FIGURES: dict[str, tuple[str, Callable[[dict[str, Any]], Drawing | None], str]] = {
    "exchange_speedup": ("exchange", lab_figures.speedups, "bench-exchange"),
    "exchange_sizes": ("exchange", lab_figures.sizes, "bench-exchange"),
    "training": ("training", lab_figures.training, "bench-training"),
    "methods": ("methods", method_figures.methods, "bench-methods"),
    "scaling": ("scaling", method_figures.scaling, "bench-scaling"),
    "minibatch": ("minibatch", method_figures.minibatch, "bench-minibatch"),
    "optimum": ("", planner_figures.optimum, "bench-profile"),
    "planned": ("", planner_figures.planned, "bench-profile"),
    "iteration": ("", planner_figures.iteration, "bench-profile"),
    "growth": ("growth", lab_figures.growth, "bench-growth"),
    "frontier": ("frontier", draw_frontier, "bench-frontier"),
}
"""Name -> results it is drawn from, how, and the make target that measures them."""


def save(figure: Figure, name: str, about: str, out: Path) -> str:
    """Into both files; the SVG's text."""
    svg = to_svg(figure, about)
    (out / f"{name}.svg").write_text(svg + "\n", encoding="utf-8")
    figure.savefig(out / f"{name}.png", dpi=110, facecolor="white")
    return svg


def draw_all(out: Path) -> dict[str, str]:
    """Draw everything there are results of, and say what there are none of; SVG texts by name."""
    drawn = {name: draw(name, out) for name in FIGURES}
    return {name: svg for name, svg in drawn.items() if svg is not None}


def draw(name: str, out: Path) -> str | None:
    """Draw one of FIGURES into both files; the SVG's text, None if there are no results."""
    results, make, target = FIGURES[name]
    out.mkdir(parents=True, exist_ok=True)
    with figure_style(name):
        drawing = make(record.read(results)["runs"] if results else {})
        if drawing is None:
            print(f"{name}: left out, there are no results yet; make {target}")
            return None
        svg = save(drawing[0], name, drawing[1], out)
        plt.close(drawing[0])
    return svg


def main() -> None:
    """Figures, then the page that shows them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder; docs/results by default")
    arguments = parser.parse_args()
    drawn = draw_all(arguments.out)
    page = arguments.out / "index.html"
    page.write_text(results_page.html(drawn), encoding="utf-8")
    print(f"wrote {page}")


if __name__ == "__main__":
    main()
