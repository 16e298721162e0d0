"""S Figure 1 and what the planner says of numbers of workers nobody has here."""

import math
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes

from benchmarks import store
from benchmarks.draw import BLUE, ORANGE, Drawing, panels
from benchmarks.store import Results
from thinwire.plan import (
    ETHERNET_GOODPUT,
    Link,
    Network,
    Setting,
    equations,
    hessian_free_iteration,
    paper,
    read_profile,
)
from thinwire.plan.methods import METHODS, ONE_BIT, alone, costs_of, k_hat, step, wires_of
from thinwire.plan.units import parse_rate
from thinwire.report.style import INK, plain_ticks, run_colours

LATENCY = 50e-6  # seconds
RATES = {"100 Mbit/s": "100mbit/s", "1 Gbit/s": "1gbit/s"}
NODES = [2 ** (i / 4) for i in range(41)]  # 1 to 1024
WORKERS = [2**i for i in range(11)]
MINIBATCH = 8192  # of the calibrated machine's figures
PAPER_MINIBATCH = 2880
# An iteration of mnist-hf-gauss-newton with sharded curvature; one loss more for the line search.
JOB = hessian_free_iteration.Job(60_000, 8192, gradients=1, losses=1, products=6, candidates=5)
PARTS = {
    "gradient": "gradient",
    "curvature": f"{JOB.products} products",
    "search": "line search",
    "vectors": "solver's vectors",
    "comm": "all reductions",
}


def profile_path() -> Path:
    """Return where ``make bench-profile`` puts the profile, in the format of ``thinwire plan``."""
    return store.FOLDER / "profile.json"


def setting_at(rate: str) -> Setting:
    """Return the calibrated machine behind a wire; raises OSError where none was calibrated."""
    link = Link(parse_rate(RATES[rate]) * ETHERNET_GOODPUT, LATENCY)
    return Setting(read_profile(profile_path()), Network(link))


def optimum(_: Results) -> Drawing:
    """Draw S Figure 1: T_calc falls with K, T_comm does not; they meet at K-hat."""
    rates = list(RATES) if profile_path().exists() else []
    figure, axes_of = panels(1 + len(rates), 4.8 * (1 + len(rates)), 4.0)
    of_paper(axes_of[0][0])
    for axes, rate in zip(axes_of[0][1:], rates, strict=True):
        of_machine(axes, rate)
    axes_of[0][0].set_ylabel("ms for each exchange")
    return figure, "T_calc and T_comm against the number of nodes, and K-hat where they meet."


def of_paper(axes: Axes) -> None:
    """Draw with the paper's costs: a K20X, half-batches of N = 2880, T_comm / Z of 3 to 10 ms.

    T_frm is a constant in eq. (4), here that of a sub-batch of 1024; S Table 1 has it grow as
    sub-batches shrink, and with that T_calc never falls to 10 ms.
    """
    costs, n = paper.bare_costs(), PAPER_MINIBATCH / 2
    low, high = paper.EXCHANGE

    def calc(nodes: float, sub_batch: float = 1024) -> float:
        per_sample = costs.times.per_sample(sub_batch)
        return equations.t_calc(nodes, PAPER_MINIBATCH, per_sample, costs.post, costs.upd)

    table_1 = [1e3 * calc(k, n / k) for k in NODES]
    axes.plot(NODES, table_1, "--", color=BLUE, linewidth=1, label="T_calc, T_frm of S Table 1")
    axes.axhspan(1e3 * low, 1e3 * high, color=ORANGE, alpha=0.15, linewidth=0)
    meeting(axes, calc, lambda _: high, "T_comm / Z, up to 10 ms")
    float32 = 32 * high  # the same exchange without quantising: Z = 1
    axes.axhline(1e3 * float32, color=INK, linestyle=":", label="T_comm, float32")
    axes.set_title(f"S: 46M parameters, K20X, N = {PAPER_MINIBATCH:,}", fontsize=10)
    axes.legend(fontsize=8, loc="lower left")


def of_machine(axes: Axes, rate: str) -> None:
    """Draw with a calibrated machine's costs, 1 bit on some wire."""
    setting = setting_at(rate)
    costs = costs_of(setting.profile, ONE_BIT)

    def calc(nodes: float) -> float:
        per_sample = costs.times.per_sample(MINIBATCH / 2 / nodes)
        return equations.t_calc(nodes, MINIBATCH, per_sample, costs.post, costs.upd)

    def comm(nodes: float) -> float:
        wires = wires_of(setting.profile, ONE_BIT, setting.network, max(2, round(nodes)))
        return sum(wire.gradients + wire.updates for wire in wires)

    meeting(axes, calc, comm, "T_comm, 1 bit")
    values = setting.profile.values / 1e6
    axes.set_title(f"calibrated here: {values:.1f}M, {rate}, N = {MINIBATCH:,}", fontsize=10)
    axes.legend(fontsize=8)


def meeting(
    axes: Axes, calc: Callable[[float], float], comm: Callable[[float], float], words: str
) -> None:
    """Draw both curves and K-hat; where T_comm is never the limit, the fixed cost is (S 2.3)."""
    axes.plot(NODES, [1e3 * calc(k) for k in NODES], color=BLUE, label="T_calc(K)", zorder=3)
    axes.plot(NODES, [1e3 * comm(k) for k in NODES], color=ORANGE, label=words)
    best = equations.crossing(calc, comm, limit=NODES[-1])
    if best < NODES[-1]:
        axes.axvline(best, color=INK, linestyle="--", linewidth=1)
        place, words = (best, 1e3 * calc(1)), f"K-hat = {best:.3g}"
        axes.annotate(words, place, (-4, 0), textcoords="offset points", size=9, ha="right")
    axes.set(xscale="log", yscale="log", xlabel="nodes, K")
    plain_ticks(axes)


def planned(_: Results) -> Drawing | None:
    """Draw samples a second up to 1024 workers, by method, on two wires; None without a profile."""
    if not profile_path().exists():
        return None
    figure, axes_of = panels(len(RATES), 11, 4.2)
    for axes, rate in zip(axes_of[0], RATES, strict=True):
        setting = setting_at(rate)
        one = alone(setting, MINIBATCH)
        ideal = [workers / one * MINIBATCH / 1e3 for workers in WORKERS]
        axes.plot(WORKERS, ideal, "--", color=INK, linewidth=1, label="perfect scaling")
        for method, colour in zip(METHODS, run_colours(len(METHODS)), strict=True):
            speeds = [speed(setting, method.name, workers) for workers in WORKERS]
            best = k_hat(setting, method, MINIBATCH)
            words = f"{method.name}, K-hat {best:.0f}" if best < WORKERS[-1] else method.name
            axes.plot(WORKERS, speeds, "o-", color=colour, markersize=4, label=words)
        axes.set(xscale="log", yscale="log", xlabel="workers", title=f"{rate}, N = {MINIBATCH:,}")
        plain_ticks(axes)
        axes.legend(fontsize=8)
    axes_of[0][0].set_ylabel("1000 samples/s, planned")
    return figure, "Planned samples per second against workers up to 1024, by method and wire."


def iteration(_: Results) -> Drawing | None:
    """Draw H Figure 2 beyond what fits here: parts of an iteration; None without profile."""
    if not profile_path().exists():
        return None
    figure, axes_of = panels(len(RATES), 11, 4.0)
    for axes, rate in zip(axes_of[0], RATES, strict=True):
        setting = setting_at(rate)
        made = [hessian_free_iteration.predict(setting, JOB, workers) for workers in WORKERS]
        for part, colour in zip(PARTS, run_colours(len(PARTS)), strict=True):
            ms = [1e3 * getattr(one, part) or math.nan for one in made]  # one worker sends nothing
            axes.plot(WORKERS, ms, "o-", color=colour, markersize=4, label=PARTS[part])
        axes.set(xscale="log", yscale="log", xlabel="workers", title=f"one iteration, {rate}")
        plain_ticks(axes)
    axes_of[0][0].set_ylabel("ms, planned")
    figure.legend(*axes_of[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure, "Planned time of the parts of a Hessian-free iteration against workers."


def speed(setting: Setting, name: str, workers: int) -> float:
    """Return 1000 samples a second of a method."""
    method = next(method for method in METHODS if method.name == name)
    made = step(setting, method, MINIBATCH, workers)
    assert made is not None  # no model parallelism here
    return made.samples_per_second / 1e3
