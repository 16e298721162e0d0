"""Figures of training: seconds and bytes to a target, and bytes against loss."""

import statistics

from matplotlib.axes import Axes

from benchmarks.draw import (
    BLUE,
    CONTENDERS,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    Drawing,
    bar,
    name_bars,
    note,
    panels,
)
from benchmarks.store import Results
from benchmarks.tables import WIRES
from benchmarks.training.contenders import ENTRIES
from benchmarks.training.rows import Row, curves, rows, stored_rates
from benchmarks.training.tasks import GOALS
from thinwire.report.style import INK, plain_ticks

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
    "lm 1-bit Adam": ("1-bit Adam, start 20 %", PINK, (-104, -8)),
    "lm local steps, beta1 0.5": ("local steps, 1 bit", INK, (9, -3)),
}
LM_09: dict[str, Label] = {
    "lm float32, beta1 0.9": ("float32", GREY, (-14, -15)),
    "lm sign, beta1 0.9": ("sign", BLUE, (-28, -3)),
    "lm bits 4/4, beta1 0.9": ("bits 4/4", GREEN, (-46, 3)),
    "lm sign, start 20 %, beta1 0.9": ("sign, start 20 %", BLUE, (8, -3)),
    "lm 1-bit Adam, beta1 0.9": ("1-bit Adam, start 20 %", PINK, (7, 6)),
    "lm local steps": ("local steps, 1 bit", INK, (9, -3)),
    "lm local steps, start 10 %": ("local steps, start 10 %", INK, (-20, 9)),
    "lm local steps, rounds of 16": ("rounds of 16", INK, (9, -3)),
}
CODES = {"float32": GREY, "sign": BLUE, "rotated": ORANGE, "4-bit": GREEN}
MNIST = {
    "mnist m 0.9": ("momentum 0.9", "s"),
    "mnist m 0.66": ("momentum 0.66", "o"),
    "mnist no feedback": ("momentum 0.66, no error feedback", "X"),
    "mnist recipe": ("recipe mnist-onebit", "^"),
}


def scatter(axes: Axes, results: Results, labels: dict[str, Label], hollow: bool) -> None:
    """Draw one point and its words for each run."""
    for name, (words, colour, offset) in labels.items():
        x, y = results[name].measures["bytes"] / 1e6, results[name].measures["loss"]
        face = "white" if hollow else colour
        axes.scatter(x, y, s=46, facecolor=face, edgecolor=colour, linewidth=1.6, zorder=3)
        axes.annotate(words, (x, y), offset, textcoords="offset points", color=colour, fontsize=8.5)


def draw_lm(axes: Axes, results: Results) -> None:
    """Draw the transformer: beta1 0.5 filled, 0.9 hollow."""
    scatter(axes, results, LM, hollow=False)
    scatter(axes, results, LM_09, hollow=True)
    for words, face in (("beta1 0.5", INK), ("beta1 0.9", "white")):
        axes.scatter([], [], s=46, facecolor=face, edgecolor=INK, linewidth=1.6, label=words)
    axes.legend(loc="upper right")
    axes.set(xscale="log", xlim=(1.5, 1500), xlabel="MB sent per worker")
    axes.set_ylabel("held-out loss (nats per character)")
    axes.set_title("Transformer, AdamW at lr 0.003, 4 workers, 600 steps", fontsize=10)
    plain_ticks(axes)


def draw_mnist(axes: Axes, results: Results) -> None:
    """Draw the perceptron: colour is the code, shape the setting."""
    for prefix, (_, marker) in MNIST.items():
        points = [
            (run.measures["bytes"] / 1e6, run.measures["test error %"], code)
            for code in CODES
            if (run := results.get(f"{prefix}, {code}")) is not None
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


def frontier(results: Results) -> Drawing | None:
    """Draw bytes against loss; None unless all of the left one's runs are there."""
    if not {*LM, *LM_09} <= set(results):
        return None
    figure, axes_of = panels(2, 12, 5)
    left, right = axes_of[0]
    draw_lm(left, results)
    draw_mnist(right, results)
    return figure, "Loss against megabytes sent per worker, for every code, on two tasks."


def training(results: Results) -> Drawing | None:
    """Draw seconds and megabytes to the target: a row for each task, a panel for each wire."""
    rates = stored_rates(results)
    tasks = [task for task in GOALS if any(rows(results, task, rate) for rate in rates)]
    if not tasks:
        return None
    columns = len(rates) + 1
    figure, axes_of = panels(columns, 5.4 * columns, 3.2 * len(tasks), rows=len(tasks))
    for line, task in zip(axes_of, tasks, strict=True):
        for axes, rate in zip(line, rates, strict=False):
            _bars(axes, rows(results, task, rate), "seconds")
            axes.set_title(f"{task}, {WIRES.get(rate, rate)}", fontsize=10)
            axes.set_xlabel("seconds to the target")
        _bars(line[-1], rows(results, task, rates[0]), "megabytes")
        line[-1].set_title(f"{task}, any wire", fontsize=10)
        line[-1].set_xlabel("MB sent per worker to the target")
    return figure, "Seconds and megabytes to the target for every contender, by task and wire."


def race(results: Results) -> Drawing | None:
    """Draw how scores fall, or rise, with megabytes and seconds, of tasks whose runs go on.

    Where runs end at the target, a bar of seconds and bytes says as much.
    """
    rates = stored_rates(results)
    going_on = [task for task, goal in GOALS.items() if goal.to_the_end]
    raced = [task for task in going_on if any(_lines(results, task, rate) for rate in rates)]
    if not raced:
        return None
    wide = 1 + len(rates)
    figure, axes_of = panels(
        2, 11, 3.8 * len(raced) * -(-wide // 2), rows=len(raced) * -(-wide // 2)
    )
    for task, axes_of_task in zip(raced, axes_of.reshape(len(raced), -1), strict=True):
        known = next(rate for rate in rates if _lines(results, task, rate))
        shown = [(known, 1, "any wire"), *((rate, 0, WIRES.get(rate, rate)) for rate in rates)]
        for axes, (rate, what, where) in zip(axes_of_task, shown, strict=False):
            found = _lines(results, task, rate)
            if not found:
                axes.set_axis_off()
                continue
            _curves(axes, found, task, what)
            axes.set(title=f"{task}, {where}", xlabel=("seconds", "MB sent per worker")[what])
            axes.set_ylabel(GOALS[task].score)
        for axes in axes_of_task[len(shown) :]:
            axes.set_axis_off()
    handles = {h.get_label(): h for axes in axes_of.flat for h in axes.get_lines()}
    names = [name for name in CONTENDERS if name in handles]
    figure.legend([handles[n] for n in names], names, loc="outside lower center", ncols=5)
    return figure, "Scores against megabytes sent per worker and against seconds, medians of seeds."


Line = list[tuple[float, float, float]]  # score, seconds, megabytes


def _lines(results: Results, task: str, rate: str) -> dict[str, Line]:
    """Each contender's medians over seeds, as far as all seeds have gone."""
    found = {}
    for name in ENTRIES[task]:
        seeds = curves(results, task, name, rate)
        if seeds:
            points = [list(zip(*at, strict=True)) for at in zip(*seeds, strict=False)]
            found[name] = [tuple(statistics.median(v) for v in point) for point in points]
    return found


def _curves(axes: Axes, found: dict[str, Line], task: str, what: int) -> None:
    """Draw scores against seconds (0) or megabytes (1)."""
    for name, line in found.items():
        scores, places = [point[0] for point in line], [point[1 + what] for point in line]
        ours = name.startswith("thinwire")
        style = {"linewidth": 2.4 if ours else 1.3, "linestyle": "-" if ours else "--"}
        axes.plot(places, scores, color=CONTENDERS[name], label=name, **style)
        axes.plot(places[-1], scores[-1], "o", color=CONTENDERS[name], markersize=4, label="_")
    axes.axhline(GOALS[task].target, color=GREY, linewidth=0.8, linestyle=":", label="_")
    axes.set_xscale("log")
    plain_ticks(axes, "x")


def _bars(axes: Axes, table: list[Row | tuple[str, str]], what: str) -> None:
    """Medians over seeds, with smallest and largest."""
    found = [row for row in table if isinstance(row, Row)]
    for place, row in enumerate(found):
        values = getattr(row, what)
        if values is None:
            note(axes, "target not met", (0, place), size=8)
            continue
        median, low, high = values
        high = min(high, 1.5 * median)  # a seed that never met it
        bar(axes, place, (median, low, high), row.contender)
        note(axes, f"{median:,.0f}", (high, place))
    name_bars(axes, [row.contender for row in found])
    axes.margins(x=0.25)
    axes.set_xlim(left=0)
