"""The plan as tables of text: the cells are written for people, and how they look is not told."""

from collections.abc import Callable
from dataclasses import dataclass

from thinwire.plan.methods import HALF_BYTES, MOST_NODES, Method
from thinwire.plan.prediction import Prediction
from thinwire.plan.setting import Setting
from thinwire.plan.step import Step
from thinwire.plan.time_to_target import Answer, TimesToTarget
from thinwire.plan.units import seconds_text
from thinwire.plan.wire_format import compression
from thinwire.report.formatting import MISSING, one_decimal, significant, whole

LEGEND = """\
DB: half-batch double buffering; MP2: two-way model parallelism. compute, post, upd: the
terms T_frm, T_post, T_upd of [Seide 2014, section 2.1]; rest: what they do not explain; hidden:
while something else was under way. K-hat: where computing and wire take the same time [equation
(4)]; "fixed": the wire takes less than the fixed cost, which is then the limit [section 2.3]."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: what it shows.
        header: the columns' headings; a column of names has an empty one.
        rows: lines of as many cells.
    """

    title: str
    header: list[str]
    rows: list[list[str]]


def prediction_tables(prediction: Prediction, setting: Setting) -> list[Table]:
    """Return speed, speed-up and limits at one minibatch size."""
    return [
        speed_table(prediction),
        speed_up_table(prediction),
        limits_table(prediction, setting),
    ]


def speed_table(prediction: Prediction) -> Table:
    """Return samples a second, workers down, methods across."""
    title = f"samples/s at minibatch {prediction.minibatch:,}"
    return _by_workers(title, prediction, lambda step, _: whole(step.samples_per_second))


def speed_up_table(prediction: Prediction) -> Table:
    """Return the speed-up over plain training by one worker, and the efficiency."""

    def cell(step: Step, workers: int) -> str:
        gain = prediction.speed_up(step)
        return f"{gain:.2f} ({100 * gain / workers:.0f} %)"

    return _by_workers("speed-up over one worker (efficiency)", prediction, cell)


def limits_table(prediction: Prediction, setting: Setting) -> Table:
    """Return each method's Z, K-hat, and best number of workers with what that step spends."""
    titles = ["Z", "K-hat", "best", "compute", "post", "upd", "rest", "wire", "hidden"]
    rows = []
    for method in prediction.methods:
        best = prediction.best(method)
        if best is None:
            continue
        at, step = best
        parts = (step.variable, step.post, step.upd, step.rest, step.comm, step.hidden)
        row = [
            method.name,
            one_decimal(_z(setting, method, max(2, at // method.model_parallel))),
            _nodes(prediction.k_hats[method]),
            whole(at),
            *(significant(1e3 * part) for part in parts),
        ]
        rows.append(row)
    return Table("limits, and the milliseconds of the fastest step", ["", *titles], rows)


def target_table(times: TimesToTarget) -> Table:
    """Return the time to the goal: workers down, methods across.

    Cells of SGD tell the best minibatch; Hessian-free methods have none.
    """
    jobs = times.fitted.jobs
    header = [
        name.removeprefix("Hessian-free, ") + ("*" if name in times.borrowed else "")
        for name in times.by_method
    ]
    rows = [
        [
            whole(workers),
            *(_time(found[row], name in jobs) for name, found in times.by_method.items()),
        ]
        for row, workers in enumerate(times.workers)
    ]
    title = f"time to {times.fitted.goal.words} (minibatch)"
    return Table(title, ["workers", *header], rows)


def _by_workers(title: str, prediction: Prediction, cell: Callable[[Step, int], str]) -> Table:
    """A table of cells made from (step, workers)."""
    columns = [dict(prediction.made(method)) for method in prediction.methods]
    rows = [
        [
            whole(workers),
            *(cell(steps[workers], workers) if workers in steps else MISSING for steps in columns),
        ]
        for workers in prediction.workers
    ]
    return Table(title, ["workers", *(method.name for method in prediction.methods)], rows)


def _time(answer: Answer | None, whole_data: bool) -> str:
    if answer is None:
        return MISSING
    told = seconds_text(answer.seconds)
    return told if whole_data else f"{told} ({answer.minibatch:,})"


def _z(setting: Setting, method: Method, workers: int) -> float:
    if method.code is None:
        return 4 / HALF_BYTES
    return compression(setting.profile.buckets, method.code, workers)


def _nodes(k_hat: float | None) -> str:
    if k_hat is None:
        return "fixed"
    return f"> {MOST_NODES:,}" if k_hat > MOST_NODES else whole(k_hat)
