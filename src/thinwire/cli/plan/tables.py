"""The plan as tables for the terminal."""

from collections.abc import Callable, Sequence

from rich import box
from rich.table import Table

from thinwire.cli.plan.answers import Answers
from thinwire.cli.plan.prediction import Prediction
from thinwire.cli.plan.runs import HESSIAN_FREE
from thinwire.plan import compression
from thinwire.plan.methods import HALF_BYTES, MOST_NODES, Method, Setting
from thinwire.plan.target import Answer
from thinwire.report.formatting import MISSING, one_decimal, significant, whole


def speed_table(prediction: Prediction) -> Table:
    """Samples a second, workers down, methods across."""
    title = f"samples/s at minibatch {prediction.minibatch:,}"
    return _by_workers(title, prediction, lambda gain, _: whole(gain / prediction.pace_alone))


def gain_table(prediction: Prediction) -> Table:
    """Speed-up over plain training by one worker, and efficiency."""

    def cell(gain: float, workers: int) -> str:
        return f"{gain:.2f} ({100 * gain / workers:.0f} %)"

    return _by_workers("speed-up over one worker (efficiency)", prediction, cell)


def _by_workers(title: str, prediction: Prediction, cell: Callable[[float, int], str]) -> Table:
    """A table of cells made from (speed-up, workers)."""
    table = _table(title)
    table.add_column("workers", justify="right")
    for method in prediction.methods:
        table.add_column(method.name, justify="right")
    for row, workers in enumerate(prediction.workers):
        cells = []
        for method in prediction.methods:
            step = prediction.steps[method][row]
            if step is None:
                cells.append(MISSING)
            else:
                gain = step.samples_per_second * prediction.pace_alone
                cells.append(cell(gain, workers))
        table.add_row(whole(workers), *cells)
    return table


def limits_table(prediction: Prediction, setting: Setting) -> Table:
    """For each method: Z, K-hat, and its best number of workers with what that step spends."""
    table = _table("limits, and the milliseconds of the fastest step")
    table.add_column("")
    titles = ("Z", "K-hat", "best", "compute", "post", "upd", "rest", "wire", "hidden")
    for title in titles:
        table.add_column(title, justify="right")
    for method in prediction.methods:
        best = prediction.best(method)
        if best is None:
            continue
        at, step = best
        parts = (step.variable, step.post, step.upd, step.rest, step.comm, step.hidden)
        table.add_row(
            method.name,
            one_decimal(_z(setting, method, max(2, at // method.model_parallel))),
            _nodes(prediction.k_hats[method]),
            f"{at:,}",
            *(significant(1e3 * part) for part in parts),
        )
    return table


def target_table(answers: Answers, target: float, metric: str) -> Table:
    """Time to the target: workers down, methods across; a minibatch is none of Hessian-free's."""
    table = _table(f"time to {target:g} % {metric} error (minibatch)")
    table.add_column("workers", justify="right")
    for name in answers.by_method:
        mark = "*" if name in answers.borrowed else ""
        table.add_column(name.removeprefix(f"{HESSIAN_FREE}, ") + mark, justify="right")
    for row, workers in enumerate(answers.workers):
        cells = [
            _time(found[row], name in answers.jobs) for name, found in answers.by_method.items()
        ]
        table.add_row(whole(workers), *cells)
    return table


def _time(answer: Answer | None, whole_data: bool) -> str:
    if answer is None:
        return MISSING
    told = _duration(answer.seconds)
    return told if whole_data else f"{told} ({answer.minibatch:,})"


def _z(setting: Setting, method: Method, workers: int) -> float:
    if method.code is None:
        return 4 / HALF_BYTES
    return compression(setting.profile.buckets, method.code, workers)


def _nodes(k_hat: float | None) -> str:
    if k_hat is None:
        return "fixed"
    return f"> {MOST_NODES:,}" if k_hat > MOST_NODES else f"{k_hat:,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def all_tables(predictions: Sequence[Prediction], setting: Setting) -> list[Table]:
    """The tables of every minibatch size."""
    return [
        table
        for prediction in predictions
        for table in (
            speed_table(prediction),
            gain_table(prediction),
            limits_table(prediction, setting),
        )
    ]
