"""One training run as its event file tells it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thinwire.report.events import EVENTS_FILE, Event, iterate_events
from thinwire.report.metrics import Metric, deciding_told, metrics_told
from thinwire.report.text import clean_text

SCHEMA = 1
LABEL_LENGTH = 80
MAX_STEPS = 50_000
"""Step events that are kept; of more, every second one, fourth one and so on."""
MAX_OTHERS = 20_000
"""Events of other kinds; real runs have hundreds."""
MAX_VALUES = 2_000_000
"""Values in all events that are kept, which bounds the memory."""
MAX_STARTS = 1_000
"""How often a run may have been resumed."""
MAX_REPEATED = 5_000_000
"""Values of events which are looked at again because a resumed run may repeat them."""
_LARGEST = 1e100  # no figure can be drawn up to the ends of the floats

_PLACE = (
    *("step", "epoch", "samples", "communications", "scalar_communications"),
    *("bytes_sent", "seconds"),
)

# What the report calculates with: null or a number, in these events.
_NUMBERS = {
    "step": (
        *(*_PLACE, "loss", "compression", "samples_per_second", "objective", "alpha"),
        *("minibatch", "lr"),
        *("damping", "ratio", "solver_iterations", "products", "candidates", "trials"),
    ),
    "epoch": (*_PLACE, "train_loss", "test_loss"),
    "selection": (*_PLACE, "minibatch", "before", "trials", "trial_samples", "trial_seconds"),
    "held_out": (*_PLACE, "best"),
    "decay": (*_PLACE, "lr", "best"),
    "decoding": ("frames", "frame_error", "cross_entropy", "phones", "phone_error"),
    "end": (
        "steps",
        "communications",
        "scalar_communications",
        "bytes_sent_per_worker",
        "compression",
        "seconds",
    ),
}


@dataclass(frozen=True)
class Run:
    """The events of one run, sorted by kind.

    Attributes:
        folder: The run folder.
        label: What tables and figures call the run.
        start: The start event; of a resumed run, the latest.
        metrics: What its evaluations measured, beside the loss.
        decides: The metric which held-out evaluations and choices of a minibatch size go by.
        steps: Step events in order, counters cumulative.
        epochs: Epoch events in order.
        skips: Skipped steps (non-finite gradients).
        phases: Phase changes, such as cold start to 1-bit.
        selections: Minibatch sizes chosen by trying several.
        held_out: Measurements on held-out samples.
        decays: Changes of the learning rate which they brought.
        decoding: How well the network recognises phones, or None if that was not tried.
        summary: The end event, or None when the run has not finished.
        left_out: Step events that were not kept because there are too many.
    """

    folder: Path
    label: str
    start: Event
    metrics: tuple[Metric, ...]
    decides: Metric
    steps: tuple[Event, ...]
    epochs: tuple[Event, ...]
    skips: tuple[Event, ...]
    phases: tuple[Event, ...]
    selections: tuple[Event, ...]
    held_out: tuple[Event, ...]
    decays: tuple[Event, ...]
    decoding: Event | None
    summary: Event | None
    left_out: int = 0

    @property
    def finished(self) -> bool:
        """Whether the run wrote its end event."""
        return self.summary is not None

    @property
    def exact(self) -> bool:
        """Whether training loss and error were measured on all samples, at one model each."""
        return any(event.get("exact") is True for event in self.epochs)

    @property
    def result(self) -> Event:
        """The summary; of an unfinished run, what its last events give (the rest is missing)."""
        return self.summary if self.summary is not None else _partial_summary(self)


def load_run(folder: Path) -> Run:
    """Read a run folder.

    Args:
        folder: The folder which holds ``events.jsonl``.

    Returns:
        The run, labelled with its name (with the folder's name where it has none).

    Raises:
        FileNotFoundError: If the folder holds no event file.
        ValueError: If the file is broken, does not begin with a start event of schema 1, or has
            something other than a number where the report needs one.
    """
    folder = Path(folder)
    kept = _kept(folder / EVENTS_FILE)
    by_kind: dict[str, list[Event]] = {}
    for event in kept.events:
        by_kind.setdefault(event["event"], []).append(event)
    start = kept.start
    return Run(
        folder=folder,
        label=clean_text(start.get("name") or folder.resolve().name, LABEL_LENGTH) or "run",
        start=start,
        metrics=metrics_told(start),
        decides=deciding_told(start),
        steps=tuple(by_kind.get("step", ())),
        epochs=tuple(by_kind.get("epoch", ())),
        skips=tuple(by_kind.get("skip", ())),
        phases=tuple(by_kind.get("phase", ())),
        selections=tuple(by_kind.get("selection", ())),
        held_out=tuple(by_kind.get("held_out", ())),
        decays=tuple(by_kind.get("decay", ())),
        decoding=kept.decoding,
        summary=kept.end,
        left_out=kept.left_out,
    )


def _kept(path: Path) -> _Kept:
    """The events of a run, checked; what a resumed run repeats stands once.

    Raises:
        FileNotFoundError: As `load_run`.
        ValueError: As `load_run`.
    """
    kept = _Kept(path)
    resumed = False
    numbers = _NUMBERS
    for line, event in enumerate(iterate_events(path), start=1):
        kind = event["event"]
        if kind == "start":
            numbers = _numbers(event, path, line)
        _check(event, numbers, path, line)
        if kind == "start":
            resumed = line > 1
            kept.begin(event)
        elif kind == "end":
            kept.end = event
        elif kind == "decoding":
            kept.decoding = event
        else:
            if resumed and "step" in event:
                # A resumed run goes back to its checkpoint: what it repeats replaces the first try.
                kept.keep_before(event)
                resumed = False
            kept.add(event)
    if not kept.start:
        raise ValueError(f"{path}: got no complete event, expected a start event")
    return kept


class _Kept:
    """The events of a run that are kept, and no more of them than memory should hold.

    Attributes:
        start: The latest start event.
        events: All others but the end, in order.
        end: The end event of the latest try, if it has one.
        decoding: The latest decoding behind it, if there was one.
        left_out: Step events that were not kept.
    """

    def __init__(self, path: Path) -> None:
        self.start: Event = {}
        self.events: list[Event] = []
        self.end: Event | None = None
        self.decoding: Event | None = None
        self.left_out = 0
        self._path = path
        self._sizes: list[int] = []  # by event, the values in it
        self._highest: list[float] = []  # by event, the highest step so far
        self._steps = self._values = self._starts = self._seen = self._repeated = 0
        self._stride = 1  # of step events every so many-th is kept

    def begin(self, event: Event) -> None:
        """Begin, or begin again: a resumed run has no start and no end of the first try."""
        self.start, self.end, self.decoding = event, None, None
        self._starts += 1
        if self._starts > MAX_STARTS + 1:
            raise ValueError(f"{self._path}: expected at most {MAX_STARTS} resumptions, got more")

    def add(self, event: Event) -> None:
        """Keep an event; of many step events only some."""
        if event["event"] == "step":
            self._seen += 1
            if self._seen % self._stride:
                self.left_out += 1
                return
        self._append(event, _count(event))
        if self._steps > MAX_STEPS or (self._steps > 1000 and self._values > MAX_VALUES):
            self._thin()
        if len(self.events) - self._steps > MAX_OTHERS or self._values > MAX_VALUES:
            raise ValueError(
                f"{self._path}: expected at most {MAX_OTHERS} events beside steps and {MAX_VALUES} "
                f"values in all events, got more"
            )

    def keep_before(self, event: Event) -> None:
        """Forget what a resumed run repeats, from this event's step on."""
        step = number(event, "step")
        if step is None:
            return
        first = bisect_left(self._highest, step)  # before it every step is lower
        self._repeated += sum(self._sizes[first:])
        if self._repeated > MAX_REPEATED:
            raise ValueError(
                f"{self._path}: expected at most {MAX_REPEATED} values which resumed runs repeat, "
                "got more"
            )
        places = range(first, len(self.events))
        self._keep(first, [place for place in places if _before(self.events[place], step)])

    def _thin(self) -> None:
        """Leave out every second step event."""
        steps, kept = 0, []
        for place, event in enumerate(self.events):
            steps += event["event"] == "step"
            if event["event"] != "step" or steps % 2 == 0:
                kept.append(place)
        before = self._steps
        self._keep(0, kept)
        self.left_out += before - self._steps
        self._stride *= 2

    def _keep(self, first: int, places: Sequence[int]) -> None:
        """Keep, of the events from a position on, those at these places."""
        kept = [(self.events[place], self._sizes[place]) for place in places]
        self._steps -= sum(event["event"] == "step" for event in self.events[first:])
        self._values -= sum(self._sizes[first:])
        del self.events[first:], self._sizes[first:], self._highest[first:]
        for event, size in kept:
            self._append(event, size)

    def _append(self, event: Event, size: int) -> None:
        before = self._highest[-1] if self._highest else -math.inf
        step = number(event, "step")
        self._highest.append(before if step is None else max(before, step))
        self.events.append(event)
        self._sizes.append(size)
        self._steps += event["event"] == "step"
        self._values += size


def _count(value: object) -> int:
    """How many values something from JSON holds; long texts count by their length."""
    if isinstance(value, dict):
        return 1 + sum(_count(item) + len(key) // 64 for key, item in value.items())
    if isinstance(value, list):
        return 1 + sum(map(_count, value))
    return 1 + len(value) // 64 if isinstance(value, str) else 1


def number(event: Event, field: str) -> float | None:
    """A field as a finite float, or None where it is missing, null, huge or not a number."""
    value = event.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not abs(value) <= _LARGEST:
        return None
    return float(value) if abs(value) * _LARGEST >= 1 else 0.0


def _numbers(start: Event, path: Path, line: int) -> dict[str, tuple[str, ...]]:
    """What the report calculates with, by kind of event, with the metrics of this run.

    Raises:
        ValueError: Naming the file and the line, if the start event describes them wrongly.
    """
    try:
        metrics, decides = metrics_told(start), deciding_told(start)
    except ValueError as error:
        raise ValueError(f"{path}, line {line}, {error}") from None
    told = {
        "step": tuple(metric.key for metric in metrics),
        "epoch": tuple(name for metric in metrics for name in (metric.train, metric.test)),
        "held_out": (decides.key,),
        "decay": (decides.key,),
    }
    return {kind: (*fields, *told.get(kind, ())) for kind, fields in _NUMBERS.items()}


def _check(event: Event, numbers: Mapping[str, tuple[str, ...]], path: Path, line: int) -> None:
    """Refuse an event the report cannot use.

    Raises:
        ValueError: Naming the file, the line, the field, what was found and what was expected.
    """
    kind = event["event"]
    if line == 1 and kind != "start":
        raise ValueError(f"{path}, line 1: got event {_excerpt(kind)}, expected 'start'")
    if kind == "start" and event.get("schema") != SCHEMA:
        got = _excerpt(event.get("schema"))
        raise ValueError(f"{path}, line {line}, field schema: got {got}, expected {SCHEMA}")
    for field in numbers.get(kind, ()):
        value = event.get(field)
        if value is not None and type(value) not in (int, float):  # JSON has no others
            raise ValueError(
                f"{path}, line {line}, field {field}: got {_excerpt(value)}, "
                "expected a number or null"
            )


def _excerpt(value: object) -> str:
    """A value from a file, short enough for an error message."""
    return clean_text(repr(value), LABEL_LENGTH)


def _before(old: Event, step: float) -> bool:
    """Whether an old event lies before the step at which a resumed run took up."""
    old_step = number(old, "step")
    return old_step is None or old_step < step


def _scores(run: Run) -> list[str]:
    return [name for metric in run.metrics for name in (metric.train, metric.test)]


def _partial_summary(run: Run) -> Event:
    """What a run without an end event can still say, under the names of the summary."""
    last_epoch = run.epochs[-1] if run.epochs else {}
    last_step = run.steps[-1] if run.steps else {}
    # Counters only grow, so the later of the two last events has the larger step.
    behind = (number(last_step, "step") or 0) < (number(last_epoch, "step") or 0)
    latest = last_epoch if behind else last_step
    summary = {key: run.start.get(key) for key in ("name", "method", "workers", "params", "seed")}
    counted = ("samples", "communications", "scalar_communications", "seconds")
    summary |= {key: latest.get(key) for key in counted}
    summary |= {
        key: last_epoch.get(key)
        for key in ("train_loss", "test_loss", *_scores(run), "params_sha256")
    }
    return summary | {
        "steps": latest.get("step"),
        "bytes_sent_per_worker": latest.get("bytes_sent"),
        "compression": last_step.get("compression"),
        "samples_per_second": last_step.get("samples_per_second"),
        "times": last_step.get("times"),
        "replicas_identical": last_epoch.get("replicas_identical"),
        "skipped_steps": len(run.skips),
        "versions": run.start.get("versions"),
        "traffic": [],
    }
