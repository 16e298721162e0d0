"""Figures of the thin-wire laboratory, from benchmarks/results: exchange, training, growth.

A figure whose results are not stored yet is left out.
"""

from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import exchange_table, training_table
from benchmarks.training_tasks import GOALS
from thinwire.report.style import INK, plain_ticks

COLOURS = {
    "dense": "#555555",
    "fp16": "#56b4e9",
    "thinwire sign": "#0072b2",
    "thinwire hook": "#0072b2",
    "thinwire rotated": "#d55e00",
    "thinwire hook, 4 bits": "#009e73",
    "thinwire optimiser": "#d55e00",
    "PowerSGD rank 1": "#cc79a7",
    "PowerSGD rank 2": "#b0629a",
    "PowerSGD rank 4": "#8a4a78",
    "Hessian-free, Gauss-Newton": "#a6761d",
    "Hessian-free, Bi-CG-STAB": "#6f63d2",
}
WIRES = {"100mbit": "100 Mbit/s", "1gbit": "1 Gbit/s", "none": "not throttled"}

LARGEST_LIMIT = 60  # times; beyond, a limit would only squeeze the bars

Drawing = tuple[Figure, str]  # the figure, and what it shows


def draw_ratios(axes: Axes, run: dict[str, Any], title: str) -> None:
    """How many times faster than dense, and the limit that each one's bytes set."""
    rows = [row for row in exchange_table.rows(run) if row.name != "dense"]
    for place, row in enumerate(rows):
        colour = COLOURS.get(row.name, INK)
        error = [[row.ratio - row.ratio_low], [row.ratio_high - row.ratio]]
        axes.barh(place, row.ratio, color=colour, height=0.65, zorder=2)
        axes.errorbar(row.ratio, place, xerr=error, color=INK, capsize=3, linewidth=1, zorder=3)
        end = row.ratio_high
        if row.factor < LARGEST_LIMIT:
            ends = [place - 0.4, place + 0.4]
            axes.plot([row.factor] * 2, ends, color=INK, linewidth=2, zorder=3)
            end = max(end, row.factor)
        words = f"{row.ratio:.1f}, {row.megabytes:.2f} MB"
        axes.annotate(words, (end, place), (6, -3), textcoords="offset points", size=8.5)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("times faster than dense float32")
    axes.set_xlim(0, 1.6 * axes.dataLim.x1)


def speedups(runs: dict[str, Any], hosts: int = 4, values: str = "8M") -> Drawing | None:
    """Bars for each wire, at one size and number of hosts."""
    found = {
        rate: run
        for rate in WIRES
        if "results" in (run := runs.get(f"{hosts} hosts, {rate}, {values}", {}))
    }
    if not found:
        return None
    figure, panels = plt.subplots(
        1, len(found), figsize=(4.6 * len(found), 3.6), layout="constrained", squeeze=False
    )
    for axes, (rate, run) in zip(panels[0], found.items(), strict=True):
        draw_ratios(axes, run, f"{WIRES[rate]}, {hosts} hosts, {values} values")
    panels[0][-1].plot([], [], color=INK, linewidth=2, label="what its bytes allow")
    panels[0][-1].legend(loc="lower right", fontsize=8)
    about = "Speed of one exchange over dense all-reduce for every contender, on three wires."
    return figure, about


def sizes(runs: dict[str, Any], hosts: int = 4) -> Drawing | None:
    """Time of an exchange against its size, a panel for each wire."""
    by_rate: dict[str, list[dict[str, Any]]] = {}
    for run in runs.values():
        if "results" in run and run["settings"]["hosts"] == hosts:
            by_rate.setdefault(run["settings"]["rate"], []).append(run)
    rates = [rate for rate in WIRES if len(by_rate.get(rate, [])) > 1]
    if not rates:
        return None
    figure, panels = plt.subplots(
        1, len(rates), figsize=(4.4 * len(rates), 3.8), layout="constrained", squeeze=False
    )
    for axes, rate in zip(panels[0], rates, strict=True):
        ordered = sorted(by_rate[rate], key=lambda run: _values(run))
        for name in ordered[0]["results"]:
            points = [
                (_values(run) / 1e6, 1e3 * row.seconds[0])
                for run in ordered
                for row in exchange_table.rows(run)
                if row.name == name
            ]
            colour = COLOURS.get(name, INK)
            axes.plot(
                *zip(*points, strict=True), marker="o", color=colour, label=name, markersize=4
            )
        axes.set(xscale="log", yscale="log", xlabel="million values")
        axes.set_title(f"{WIRES[rate]}, {hosts} hosts", fontsize=10)
        plain_ticks(axes)
    panels[0][0].set_ylabel("ms of one exchange")
    panels[0][-1].legend(fontsize=8)
    return figure, "Time of one exchange against its number of values, for every contender."


def _values(run: dict[str, Any]) -> int:
    rows, columns = run["settings"]["shape"]
    return int(rows * columns)


def training(runs: dict[str, Any]) -> Drawing | None:
    """Seconds and megabytes to the target: a row for each task, a panel for each wire."""
    rates = training_table.stored_rates(runs)
    tasks = [task for task in GOALS if any(training_table.table(runs, task, r) for r in rates)]
    if not tasks:
        return None
    size = (5.4 * (len(rates) + 1), 3.2 * len(tasks))
    figure, panels = plt.subplots(
        len(tasks), len(rates) + 1, figsize=size, layout="constrained", squeeze=False
    )
    for line, task in zip(panels, tasks, strict=True):
        for axes, rate in zip(line, rates, strict=False):
            _bars(axes, training_table.table(runs, task, rate), "seconds")
            axes.set_title(f"{task}, {WIRES.get(rate, rate)}", fontsize=10)
            axes.set_xlabel("seconds to the target")
        _bars(line[-1], training_table.table(runs, task, rates[0]), "megabytes")
        line[-1].set_title(f"{task}, any wire", fontsize=10)
        line[-1].set_xlabel("MB sent per worker to the target")
    return figure, "Seconds and megabytes to the target for every contender, by task and wire."


def _bars(axes: Axes, table: list[Any], what: str) -> None:
    """Medians over seeds, with smallest and largest."""
    rows = [row for row in table if isinstance(row, training_table.Row)]
    for place, row in enumerate(rows):
        values = getattr(row, what)
        if values is None:
            axes.annotate("target not met", (0, place), (5, -3), textcoords="offset points", size=8)
            continue
        median, low, high = values
        high = min(high, 1.5 * median)  # a seed that never met it
        axes.barh(place, median, color=COLOURS.get(row.contender, INK), height=0.65)
        error = [[median - low], [high - median]]
        axes.errorbar(median, place, xerr=error, color=INK, capsize=3, linewidth=1)
        words = (high, place)
        axes.annotate(f"{median:,.0f}", words, (5, -3), textcoords="offset points", size=8.5)
    axes.set_yticks(range(len(rows)), [row.contender for row in rows])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.25)
    axes.set_xlim(left=0)


def growth(runs: dict[str, Any]) -> Drawing | None:
    """Bytes, memory and arithmetic of one worker against the number of workers."""
    if not runs:
        return None
    run = list(runs.values())[-1]
    values = run["settings"]["values"]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12.5, 3.6), layout="constrained")
    workers = [int(world) for world in run["real"]]
    real = list(run["real"].values())
    kernel = [row["kernel_bytes"] / 1e6 for row in real]
    left.plot(workers, kernel, "o-", color="#0072b2", label="measured, by the kernel")
    plan = {int(world): row["bytes"]["sign"] / 1e6 for world, row in run.get("planned", {}).items()}
    near = [world for world in plan if world <= workers[-1]]
    if near:
        left.plot(near, [plan[k] for k in near], "x", color="#d55e00", label="planned")
    ideal = [2 * values / 8e6 * (world - 1) / world for world in workers]
    left.plot(workers, ideal, "--", color=INK, label="2 bits a value, times (K - 1) / K")
    memory = [row["memory_bytes"] / (4 * values) for row in real]
    middle.plot(workers, memory, "o-", color="#009e73", label="measured")
    expected = [2 + 2 / world for world in workers]
    middle.plot(workers, expected, "--", color=INK, label="residuals: 2 + 2 / K")
    worlds = [int(world) for world in run["simulated"]]
    for name, colour in zip(
        ("quantise", "sum", "requantise", "decode"),
        ("#0072b2", "#d55e00", "#cc79a7", "#009e73"),
        strict=True,
    ):
        times = [1e3 * row[name][0] for row in run["simulated"].values()]
        right.plot(worlds, times, "o-", color=colour, label=name, markersize=4)
    left.set(ylim=(0, None), xlabel="workers, K", ylabel="MB sent per worker and exchange")
    middle.set(ylim=(0, None), xlabel="workers, K", ylabel="memory per worker (gradients)")
    right.set(xscale="log", yscale="log", xlabel="workers, K", ylabel="ms per worker")
    plain_ticks(right)
    for axes in (left, middle, right):
        axes.legend(fontsize=8)
    return figure, f"Bytes, memory and time of one worker against workers, {values:,} values."
