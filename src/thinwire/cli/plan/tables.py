"""The plan as tables for the terminal."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from thinwire.cli.plan.answers import Answers
from thinwire.cli.plan.prediction import Prediction
from thinwire.plan import compression
from thinwire.plan.methods import HALF_BYTES, MOST_NODES, Method, Setting, k_hat
from thinwire.report.formatting import MISSING, one_decimal, significant, whole


def speed_table(prediction: Prediction) -> Table:
    """Samples a second and speed-up, workers down, methods across."""
    table = _table(f"samples/s (speed-up, efficiency) at minibatch {prediction.minibatch:,}")
    table.add_column("workers", justify="right")
    for method in prediction.methods:
        table.add_column(method.name, justify="right", overflow="fold")
    for row, workers in enumerate(prediction.workers):
        cells = []
        for method in prediction.methods:
            step = prediction.steps[method][row]
            if step is None:
                cells.append(MISSING)
                continue
            gain = step.samples_per_second * prediction.alone / prediction.minibatch
            cells.append(
                f"{whole(step.samples_per_second)} ({gain:.3g}\N{MULTIPLICATION SIGN}, "
                f"{100 * gain / workers:.0f} %)"
            )
        table.add_row(whole(workers), *cells)
    return table


def limits_table(prediction: Prediction, setting: Setting) -> Table:
    """For each method: Z, K-hat, and its best number of workers with what that step spends."""
    table = _table("ms of the fastest step")
    for title in ("", "Z", "K-hat", "fastest at", "compute", "post", "update", "rest", "wire"):
        table.add_column(title, justify="right" if title else "left")
    table.add_column("hidden", justify="right")
    for method in prediction.methods:
        best = prediction.best(method)
        if best is None:
            continue
        at, step = best
        parts = (step.variable, step.post, step.upd, step.rest, step.comm, step.hidden)
        table.add_row(
            method.name,
            one_decimal(_z(setting, method, max(2, at // method.model_parallel))),
            _nodes(k_hat(setting, method, prediction.minibatch) * method.model_parallel),
            f"{at:,}",
            *(significant(1e3 * part) for part in parts),
        )
    return table


def target_table(answers: Answers, target: float, metric: str) -> Table:
    """Time to the target: workers down, methods across."""
    table = _table(f"time to {target:g} % {metric} error (minibatch)")
    table.add_column("workers", justify="right")
    for name in answers.by_method:
        table.add_column(name + ("*" if name in answers.borrowed else ""), justify="right")
    for row, workers in enumerate(answers.workers):
        cells = []
        for found in answers.by_method.values():
            answer = found[row]
            told = answer and f"{_duration(answer.seconds)} ({answer.minibatch:,})"
            cells.append(told or MISSING)
        table.add_row(whole(workers), *cells)
    return table


def _z(setting: Setting, method: Method, workers: int) -> float:
    if method.code is None:
        return 4 / HALF_BYTES
    return compression(setting.profile.buckets, method.code, workers)


def _nodes(value: float) -> str:
    """K-hat in workers; beyond what was looked at, the wire is never the limit."""
    return f"> {MOST_NODES:,}" if value > MOST_NODES else f"{value:,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def all_tables(predictions: Sequence[Prediction], setting: Setting) -> list[Table]:
    """Both tables of every minibatch size."""
    return [
        table
        for prediction in predictions
        for table in (speed_table(prediction), limits_table(prediction, setting))
    ]
