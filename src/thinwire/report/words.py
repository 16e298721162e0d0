"""A run in words: one sentence and a few headline numbers."""

from __future__ import annotations

from dataclasses import dataclass

from thinwire.report.columns import epochs_done
from thinwire.report.formatting import MISSING, data_size, one_decimal, short, whole
from thinwire.report.run import Run, number
from thinwire.report.text import clean_text

_METHODS = {
    "onebit": "1-bit",
    "dense": "dense",
    "sgd": "dense",
    "hf": "Hessian-free",
    "hessian_free": "Hessian-free",
    "hessian-free": "Hessian-free",
}


@dataclass(frozen=True)
class Tile:
    """One headline number.

    Attributes:
        title: What it is.
        value: The number as text, with its unit.
        note: A few words under it; may be empty.
    """

    title: str
    value: str
    note: str = ""


def sentence(run: Run) -> str:
    """Say in one sentence what a run did.

    Returns:
        Such as "4 workers, 1-bit: 2.0 % test error after 12 epochs, 28.6 times fewer bytes than
        dense." Parts that the run does not know are left out.
    """
    parts = [f"{_test_score(run)} {_duration(run)}".strip(), _saving(run)]
    told = ", ".join(part for part in parts if part) or "no result yet"
    skipped = number(run.result, "skipped_steps") or 0
    if skipped:
        told += f", {_count(skipped, 'step')} skipped"
    if run.result.get("replicas_identical") is False:
        told += ", and the replicas differ"
    return f"{_team(run)}: {told}{'.' if run.finished else ' (unfinished).'}"


def tiles(run: Run) -> list[Tile]:
    """The headline numbers of a run."""
    result = run.result
    metric = run.metrics[0]
    score = number(result, metric.test)
    dense = number(result, "dense_bytes_per_worker")
    seconds = number(result, "seconds")
    epochs = epochs_done(run)
    return [
        Tile(
            f"test {metric.title}",
            MISSING if score is None else metric.with_unit(score),
            "" if epochs is None else f"after {_count(epochs, 'epoch')}",
        ),
        _economy(run),
        Tile(
            "samples per second",
            whole(number(result, "samples_per_second")),
            "" if seconds is None else f"{one_decimal(seconds)} s in all",
        ),
        Tile(
            "sent per worker",
            data_size(number(result, "bytes_sent_per_worker")),
            "" if dense is None else f"dense: {data_size(dense)}",
        ),
    ]


def _economy(run: Run) -> Tile:
    """How little was sent: against a dense exchange, or in how many communications."""
    compression = number(run.result, "compression")
    steady = number(run.result, "compression_steady")
    count = number(run.result, "communications")
    scalars = number(run.result, "scalar_communications")
    if compression is None and count is not None:
        note = "" if scalars is None else f"and {whole(scalars)} of a few numbers"
        return Tile("vector communications", whole(count), note)
    factor = f"{one_decimal(compression)} \N{MULTIPLICATION SIGN}"
    return Tile(
        "compression",
        MISSING if compression is None else factor,
        "" if steady is None else f"{_times(steady)} in steady state",
    )


def _team(run: Run) -> str:
    """Who trained and how: "4 workers, 1-bit"."""
    method = clean_text(run.result.get("method") or run.start.get("method") or "unknown method", 60)
    workers = number(run.result, "workers") or number(run.start, "workers")
    named = _METHODS.get(method, method)
    return f"{_count(workers, 'worker')}, {named}" if workers else named


def _test_score(run: Run) -> str:
    metric = run.metrics[0]
    score = number(run.result, metric.test)
    if score is None:
        return ""
    value = f"{100 * score:.1f} %" if metric.percent else metric.with_unit(score)
    return f"{value} test {metric.title}"


def _duration(run: Run) -> str:
    epochs = epochs_done(run)
    return "" if epochs is None else f"after {_count(epochs, 'epoch')}"


def _saving(run: Run) -> str:
    """How the traffic compares with sending every gradient whole."""
    sent = number(run.result, "bytes_sent_per_worker")
    compression = number(run.result, "compression")
    if sent == 0:
        return "nothing sent"
    if compression is None:
        return "" if sent is None else f"{data_size(sent)} sent per worker"
    if compression >= 1.05:
        return f"{one_decimal(compression)} times fewer bytes than dense"
    if compression > 0.95:
        return "as many bytes as dense"
    # Compression 0 would be a broken run; it has no "times more".
    return f"{1 / compression:.1f} times more bytes than dense" if compression > 0 else ""


def _count(value: float, noun: str) -> str:
    return f"{short(value)} {noun}" + ("" if value == 1 else "s")


def _times(value: float | None) -> str:
    return MISSING if value is None else f"{one_decimal(value)} \N{MULTIPLICATION SIGN}"
