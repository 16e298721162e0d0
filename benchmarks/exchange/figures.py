"""Figures of one exchange, and of one worker as workers are added."""

import math

from matplotlib.axes import Axes

from benchmarks.draw import (
    BLUE,
    BROWN,
    CONTENDERS,
    GREEN,
    ORANGE,
    PINK,
    Drawing,
    bar,
    name_bars,
    note,
    panels,
)
from benchmarks.exchange import growth as growing
from benchmarks.exchange.measure import SHAPES
from benchmarks.exchange.rows import rows
from benchmarks.store import Result, Results, measured
from benchmarks.tables import WIRES
from thinwire.report.style import INK, plain_ticks

HOSTS = 4
LARGEST_LIMIT = 60  # times; beyond, a limit would only squeeze the bars


def draw_ratios(axes: Axes, run: Result, title: str) -> None:
    """Draw how many times faster than dense, and the limit that each one's bytes set."""
    found = [row for row in rows(run) if row.name != "dense"]
    for place, row in enumerate(found):
        bar(axes, place, row.ratio, row.name)
        end = row.ratio[2]
        if row.factor < LARGEST_LIMIT:
            ends = [place - 0.4, place + 0.4]
            axes.plot([row.factor] * 2, ends, color=INK, linewidth=2, zorder=3)
            end = max(end, row.factor)
        words = f"{row.ratio[0]:.1f}, {row.megabytes:.2f} MB"
        note(axes, words, (end, place), xytext=(6, -3))
    name_bars(axes, [row.name for row in found])
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("times faster than dense float32")
    axes.set_xlim(0, 1.6 * axes.dataLim.x1)


def speedups(results: Results, values: str = "8M") -> Drawing | None:
    """Draw bars for each wire, at one size and number of hosts."""
    known = measured(results)
    found = {rate: f"{HOSTS} hosts, {rate}, {values}" for rate in WIRES}
    found = {rate: key for rate, key in found.items() if key in known}
    if not found:
        return None
    figure, axes_of = panels(len(found), 4.6 * len(found), 3.6)
    for axes, (rate, key) in zip(axes_of[0], found.items(), strict=True):
        draw_ratios(axes, known[key], f"{WIRES[rate]}, {HOSTS} hosts, {values} values")
    axes_of[0][-1].plot([], [], color=INK, linewidth=2, label="what its bytes allow")
    axes_of[0][-1].legend(loc="lower right", fontsize=8)
    about = "Speed of one exchange over dense all-reduce for every contender, on three wires."
    return figure, about


def sizes(results: Results) -> Drawing | None:
    """Draw the time of an exchange against its size, a panel for each wire."""
    by_rate: dict[str, list[Result]] = {}
    for run in measured(results).values():
        if run.settings["hosts"] == HOSTS:
            by_rate.setdefault(run.settings["rate"], []).append(run)
    rates = [rate for rate in WIRES if len(by_rate.get(rate, [])) > 1]
    if not rates:
        return None
    figure, axes_of = panels(len(rates), 4.4 * len(rates), 3.8)
    for axes, rate in zip(axes_of[0], rates, strict=True):
        lines: dict[str, list[tuple[float, float]]] = {}
        for run in sorted(by_rate[rate], key=_values):
            for row in rows(run):
                lines.setdefault(row.name, []).append((_values(run) / 1e6, 1e3 * row.seconds[0]))
        for name, points in lines.items():
            look = {"marker": "o", "color": CONTENDERS.get(name, INK), "markersize": 4}
            axes.plot(*zip(*points, strict=True), label=name, **look)
        axes.set(xscale="log", yscale="log", xlabel="million values")
        axes.set_title(f"{WIRES[rate]}, {HOSTS} hosts", fontsize=10)
        plain_ticks(axes)
    axes_of[0][0].set_ylabel("ms of one exchange")
    axes_of[0][-1].legend(fontsize=8)
    return figure, "Time of one exchange against its number of values, for every contender."


def _values(run: Result) -> int:
    rows_, columns = SHAPES[run.settings["values"]]
    return rows_ * columns


def growth(results: Results) -> Drawing | None:
    """Draw bytes, memory and arithmetic of one worker against the number of workers."""
    real, arithmetic = growing.real_results(results), results.get("arithmetic")
    if not real or arithmetic is None:
        return None
    values = arithmetic.settings["values"]
    figure, axes_of = panels(3, 12.5, 3.6)
    left, middle, right = axes_of[0]
    workers = list(real)
    kernel = [run.measures["kernel_bytes"] / 1e6 for run in real.values()]
    left.plot(workers, kernel, "o-", color=BLUE, label="measured, by the kernel")
    plan = {k: row["bytes"]["sign"] / 1e6 for k, row in growing.planned(values).items()}
    near = [k for k in plan if k <= workers[-1]]
    left.plot(near, [plan[k] for k in near], "x", color=ORANGE, label="planned")
    sparse = [run.measures.get("sparse_bytes", math.nan) / 1e6 for run in real.values()]
    left.plot(workers, sparse, "s-", color=BROWN, label="64 of each 4096, gathered", markersize=4)
    ideal = [2 * values / 8e6 * (k - 1) / k for k in workers]
    left.plot(workers, ideal, "--", color=INK, label="2 bits a value, times (K - 1) / K")
    memory = [run.measures["memory_bytes"] / (4 * values) for run in real.values()]
    middle.plot(workers, memory, "o-", color=GREEN, label="measured")
    expected = [2 + 2 / k for k in workers]
    middle.plot(workers, expected, "--", color=INK, label="residuals: 2 + 2 / K")
    for name, colour in zip(growing.PARTS, (BLUE, ORANGE, PINK, GREEN), strict=True):
        times = {int(k): 1e3 * row[name][0] for k, row in arithmetic.measures.items()}
        right.plot(list(times), list(times.values()), "o-", color=colour, label=name, markersize=4)
    left.set(ylim=(0, None), xlabel="workers, K", ylabel="MB sent per worker and exchange")
    middle.set(ylim=(0, None), xlabel="workers, K", ylabel="memory per worker (gradients)")
    right.set(xscale="log", yscale="log", xlabel="workers, K", ylabel="ms per worker")
    plain_ticks(right)
    for axes in axes_of[0]:
        axes.legend(fontsize=8)
    return figure, f"Bytes, memory and time of one worker against workers, {values:,} values."
