"""Figures of the second family: H's Figures 1 to 3, from stored runs."""

import math
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks import methods as method_runs
from benchmarks import minibatch as minibatch_runs
from benchmarks.lab import parse_rate
from benchmarks.lab_figures import WIRES, Drawing
from benchmarks.scaling import NET
from thinwire.report.style import plain_ticks, run_colours

AXES = {
    "step": ("iterations", 1.0),
    "epoch": ("effective passes over the data", 1.0),
    "communications": ("vector sums", 1.0),
    "bytes_sent": ("MB sent per worker", 1e-6),
    "seconds": ("seconds, four workers on this machine", 1.0),
}
COLOURS = dict(zip(method_runs.METHODS, run_colours(len(method_runs.METHODS)), strict=True))


def methods(runs: dict[str, Any]) -> Drawing | None:
    """H Figure 1: the objective against whatever it costs; a line for every seed."""
    found = [
        (label, run["curve"])
        for label in COLOURS
        for seed in method_runs.SEEDS
        if (run := runs.get(method_runs.key(label, seed), {})).get("curve")
    ]
    if not found:
        return None
    figure, panels = plt.subplots(2, 3, figsize=(13, 7.6), layout="constrained", sharey=True)
    for axes, (field, (title, scale)) in zip(panels.flat, AXES.items(), strict=False):
        for label, curve in found:
            points = [(scale * point[field], point["train_loss"]) for point in curve]
            points = [(x, y) for x, y in points if x > 0]
            look = {"color": COLOURS[label], "linestyle": line_of(label), "alpha": 0.8}
            axes.plot(*zip(*points, strict=True), linewidth=1.1, **look)
        axes.set(xscale="log", yscale="log", xlabel=title)
        plain_ticks(axes)
    for axes in panels[:, 0]:
        axes.set_ylabel("objective (nats, all training samples)")
    last = panels.flat[-1]
    last.axis("off")
    for label in dict.fromkeys(label for label, _ in found):
        last.plot([], [], color=COLOURS[label], linestyle=line_of(label), label=label)
    last.legend(loc="center")
    about = (
        "Objective against iterations, passes, vector sums, bytes and seconds, by method and seed."
    )
    return figure, about


def line_of(label: str) -> str:
    """One kind of line for each family."""
    return "--" if "SGD" in label else "-"


def minibatch(runs: dict[str, Any]) -> Drawing | None:
    """H Figure 3, right: iterations to a training error against the curvature minibatch."""
    sizes, names = minibatch_runs.SIZES, minibatch_runs.METHODS
    if not all(key in runs for key in minibatch_runs.specs()):
        return None
    colours = dict(zip(names, run_colours(len(names)), strict=True))
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
    for axes, target in zip(panels, (4, 2), strict=True):
        for name in names:
            reached = {
                size: runs[f"{name}, auto, {size}"]["reach"].get(str(target)) for size in sizes
            }
            points = [(size, found[0]) for size, found in reached.items() if found]
            axes.plot(*zip(*points, strict=True), "o-", color=colours[name], label=name)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, map(str, sizes))
        axes.set(xlabel="curvature minibatch", title=f"to {target} % training error")
    panels[0].set_ylabel("iterations")
    panels[0].legend(fontsize=8.5)
    plain_ticks(panels[0], "y")
    return figure, "Iterations to a training error against the curvature minibatch, by method."


def scaling(runs: dict[str, Any]) -> Drawing | None:
    """H Figure 2: gradient, product and line search against workers, a panel for each wire."""
    by_rate: dict[str, dict[int, Any]] = {}
    for run in runs.values():
        if "seconds" in run:
            settings = run["settings"]
            by_rate.setdefault(settings["rate"], {})[settings["hosts"]] = run["seconds"]
    if not by_rate:
        return None
    size = (4.8 * len(by_rate), 4.0)
    figure, panels = plt.subplots(
        1, len(by_rate), figsize=size, layout="constrained", squeeze=False, sharey=True
    )
    ordered = sorted(by_rate.items(), key=lambda pair: parse_rate(pair[0]) or math.inf)
    for axes, (rate, times) in zip(panels[0], ordered, strict=True):
        _times(axes, dict(sorted(times.items())))
        axes.set_title(f"{WIRES.get(rate, rate)}, {NET}", fontsize=10)
    panels[0][0].set_ylabel("ms, of the slowest worker")
    panels[0][0].legend(fontsize=8.5)
    return figure, "Time of a gradient, a curvature product and a line search against workers."


def _times(axes: Axes, times: dict[int, Any]) -> None:
    """Medians, with smallest and largest."""
    hosts, names = list(times), list(next(iter(times.values())))
    for name, colour in zip(names, run_colours(len(names)), strict=True):
        median, low, high = ([1e3 * times[k][name][i] for k in hosts] for i in range(3))
        below = [m - x for m, x in zip(median, low, strict=True)]
        above = [x - m for m, x in zip(median, high, strict=True)]
        error = [below, above]
        axes.errorbar(hosts, median, error, fmt="o-", color=colour, capsize=3, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(hosts, map(str, hosts))
    axes.set(yscale="log", xlabel="workers")
    plain_ticks(axes, "y")
