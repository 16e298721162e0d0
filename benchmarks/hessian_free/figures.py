"""Figures of the second family: H's Figures 1 to 3, from stored runs."""

import math

from matplotlib.axes import Axes

from benchmarks.draw import Drawing, panels
from benchmarks.hessian_free import methods as method_runs
from benchmarks.hessian_free import minibatch as minibatch_runs
from benchmarks.hessian_free.runs import METHODS
from benchmarks.hessian_free.scaling import NET
from benchmarks.lab import parse_rate
from benchmarks.store import Results, measured
from benchmarks.tables import WIRES
from benchmarks.timing import Range
from thinwire.report.style import plain_ticks, run_colours

AXES = {
    "step": ("iterations", 1.0),
    "epoch": ("effective passes over the data", 1.0),
    "communications": ("vector sums", 1.0),
    "bytes_sent": ("MB sent per worker", 1e-6),
    "seconds": ("seconds, four workers on this machine", 1.0),
}
COLOURS = dict(zip(method_runs.METHODS, run_colours(len(method_runs.METHODS)), strict=True))


def methods(results: Results) -> Drawing | None:
    """Draw H Figure 1: the objective against whatever it costs; a line for every seed."""
    found = method_runs.curves(results)
    if not found:
        return None
    figure, axes_of = panels(3, 13, 7.6, rows=2, sharey=True)
    for axes, (field, (title, scale)) in zip(axes_of.flat, AXES.items(), strict=False):
        for label, curve in found:
            points = [(scale * point[field], point["train_loss"]) for point in curve]
            points = [(x, y) for x, y in points if x > 0]
            look = {"color": COLOURS[label], "linestyle": line_of(label), "alpha": 0.8}
            axes.plot(*zip(*points, strict=True), linewidth=1.1, **look)
        axes.set(xscale="log", yscale="log", xlabel=title)
        plain_ticks(axes)
    for axes in axes_of[:, 0]:
        axes.set_ylabel("objective (nats, all training samples)")
    last = axes_of.flat[-1]
    last.axis("off")
    for label in dict.fromkeys(label for label, _ in found):
        last.plot([], [], color=COLOURS[label], linestyle=line_of(label), label=label)
    last.legend(loc="center")
    about = (
        "Objective against iterations, passes, vector sums, bytes and seconds, by method and seed."
    )
    return figure, about


def line_of(label: str) -> str:
    """Return one kind of line for each family."""
    return "--" if "SGD" in label else "-"


def minibatch(results: Results) -> Drawing | None:
    """Draw H Figure 3, right: iterations to a training error against the curvature minibatch."""
    sizes, key = minibatch_runs.SIZES, minibatch_runs.key
    if not all(key(method, size) in results for method in METHODS for size in sizes):
        return None
    figure, axes_of = panels(2, 11, 4.4, sharey=True)
    for axes, target in zip(axes_of[0], (4, 2), strict=True):
        for method, colour in zip(METHODS, run_colours(len(METHODS)), strict=True):
            reach = {size: results[key(method, size)].measures["reach"] for size in sizes}
            points = [(n, told[str(target)][0]) for n, told in reach.items() if str(target) in told]
            axes.plot(*zip(*points, strict=True), "o-", color=colour, label=method)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, map(str, sizes))
        axes.set(xlabel="curvature minibatch", title=f"to {target} % training error")
    first = axes_of[0][0]
    first.set_ylabel("iterations")
    first.legend(fontsize=8.5)
    plain_ticks(first, "y")
    return figure, "Iterations to a training error against the curvature minibatch, by method."


def scaling(results: Results) -> Drawing | None:
    """Draw H Figure 2: gradient, product and line search against workers, a panel for each wire."""
    by_rate: dict[str, dict[int, dict[str, Range]]] = {}
    for run in measured(results).values():
        by_rate.setdefault(run.settings["rate"], {})[run.settings["hosts"]] = run.measures
    if not by_rate:
        return None
    figure, axes_of = panels(len(by_rate), 4.8 * len(by_rate), 4.0, sharey=True)
    ordered = sorted(by_rate.items(), key=lambda pair: parse_rate(pair[0]) or math.inf)
    for axes, (rate, times) in zip(axes_of[0], ordered, strict=True):
        _times(axes, dict(sorted(times.items())))
        axes.set_title(f"{WIRES.get(rate, rate)}, {NET}", fontsize=10)
    axes_of[0][0].set_ylabel("ms, of the slowest worker")
    axes_of[0][0].legend(fontsize=8.5)
    return figure, "Time of a gradient, a curvature product and a line search against workers."


def _times(axes: Axes, times: dict[int, dict[str, Range]]) -> None:
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
