"""Draw docs/results/*.svg and *.png from benchmarks/results/*.json.

python -m benchmarks.figures
"""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import lab_figures
from thinwire.report.style import INK, figure_style, plain_ticks, to_svg

HERE = Path(__file__).parent
OUT = HERE.parent / "docs" / "results"

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


def draw_frontier() -> Figure:
    """Both panels."""
    runs = json.loads((HERE / "results" / "frontier.json").read_text(encoding="utf-8"))["runs"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    draw_lm(left, runs)
    draw_mnist(right, runs)
    return figure


def save(figure: Figure, name: str, about: str) -> None:
    """Into both files."""
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.svg").write_text(to_svg(figure, about) + "\n", encoding="utf-8")
    figure.savefig(OUT / f"{name}.png", dpi=110, facecolor="white")


def main() -> None:
    """Draw everything there are results of."""
    with figure_style("frontier"):
        about = "Loss against megabytes sent per worker, for every code, on two tasks."
        save(draw_frontier(), "frontier", about)
    lab_figures.draw_all(save)


if __name__ == "__main__":
    main()
