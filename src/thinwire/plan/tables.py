"""The plan as tables of text: the cells are written for people, and how they look is not told."""

from collections.abc import Callable
from dataclasses import dataclass

from thinwire.plan.equations import WIRE_SHARE
from thinwire.plan.methods import HALF_BYTES, MOST_NODES, Method, bytes_per_sample, h_hat
from thinwire.plan.prediction import Prediction
from thinwire.plan.setting import Setting
from thinwire.plan.step import Step
from thinwire.plan.time_to_target import Answer, TimesToTarget
from thinwire.plan.units import seconds_text
from thinwire.plan.wire_format import compression
from thinwire.report.formatting import MISSING, one_decimal, significant, whole

LEGEND = f"""\
DB: half-batch double buffering; MP2: two-way model parallelism; H8 D2: rounds of 8 local steps,
whose exchange goes on beside 2 of the next. compute, post, upd: the terms T_frm, T_post, T_upd of
[Seide 2014, section 2.1]; rest: what they do not explain; hidden: while something else was under
way. K-hat: where computing and wire take the same time [equation (4)]; "fixed": the wire takes less
than the fixed cost, which is then the limit [section 2.3]. H-hat: the fewest local steps to which
the wire adds at most {100 * WIRE_SHARE:.0f} %. B/sample: bytes that a worker sends for a sample."""


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
        step_table(prediction),
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
    """Return each method's Z, bytes, K-hat and H-hat, on the workers on which it is fastest."""
    titles = ["Z", "B/sample", "K-hat", "H-hat", "best"]
    rows = []
    for method, workers, _ in _fastest(prediction):
        several = max(2, workers // method.model_parallel)  # one worker alone sends nothing
        sent = bytes_per_sample(setting, method, prediction.minibatch, several)
        local = h_hat(setting, method, prediction.minibatch, several)
        row = [
            method.name,
            one_decimal(_z(setting, method, several)),
            significant(sent),
            _nodes(prediction.k_hats[method]),
            MISSING if local is None else whole(local),
            whole(workers),
        ]
        rows.append(row)
    return Table("limits, and the best number of workers", ["", *titles], rows)


def step_table(prediction: Prediction) -> Table:
    """Return what each method's fastest step spends."""
    titles = ["compute", "post", "upd", "rest", "wire", "hidden"]
    rows = []
    for method, _, step in _fastest(prediction):
        parts = (step.variable, step.post, step.upd, step.rest, step.comm, step.hidden)
        rows.append([method.name, *(significant(1e3 * part) for part in parts)])
    return Table("milliseconds of the fastest step", ["", *titles], rows)


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


def _fastest(prediction: Prediction) -> list[tuple[Method, int, Step]]:
    """Each method with the workers on which it is fastest and the step there."""
    found = [(method, prediction.best(method)) for method in prediction.methods]
    return [(method, *best) for method, best in found if best is not None]


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
    return max(1, method.every) * compression(setting.profile.buckets, method.code, workers)


def _nodes(k_hat: float | None) -> str:
    if k_hat is None:
        return "fixed"
    return f"> {MOST_NODES:,}" if k_hat > MOST_NODES else whole(k_hat)
