"""Choosing the minibatch size by trying several, all from the same state (S section 4).

One size is tried in one step of the loop, and taken back. So a run is between steps what a
checkpoint says it is, also in the middle of a selection.
"""

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thinwire.exchange import Ledger, Wire
from thinwire.optim import Snapshot, StepReport
from thinwire.optim.snapshot import TRIAL
from thinwire.search import choose, ladder
from thinwire.train.evaluate import no_value, per_sample
from thinwire.train.fields import SelectionFields
from thinwire.train.selection import finite_or_none
from thinwire.train.state import MinibatchState
from thinwire.train.tasks import Metric, Task
from thinwire.train.training import Told

Train = Callable[[Tensor, Tensor], list[StepReport | None]]


def select(
    state: MinibatchState, fields: SelectionFields, task: Task, wire: Wire, train: Train
) -> list[Told]:
    """Try the next size of a selection that is due or in progress; after the last, choose.

    Args:
        state: the run's; its sampler's minibatch size is what is chosen.
        fields: the recipe's.
        task: its deciding metric is compared.
        wire: the workers; one small reduction.
        train: trains on one minibatch of sample numbers and adds this worker's sums to a float64
            [1 + task.sums + 1]; says what ended.

    Returns:
        The selection, where it has come to an end.
    """
    selection, counts, sampler = state.selection, state.counts, state.sampler
    if _begins(state, fields):
        sizes = ladder(sampler.minibatch, fields.growth, fields.largest, wire.world)
        selection.begin(counts.samples, fields.every, sizes)
    if not selection.untried:
        return []
    started = time.perf_counter()
    value, samples = _try(selection.untried[0], fields.trial, state, task, wire, train)
    selection.note(value)
    counts.trials += 1
    counts.trial_samples += samples
    counts.trial_seconds += time.perf_counter() - started
    if selection.untried:
        return []
    tried, before = selection.finish(), sampler.minibatch
    sampler.minibatch = _best(tried, task.decides, fields.margin)
    return [_told(before, state, tried, task.decides, wire)]


def _best(tried: dict[int, float], metric: Metric, margin: float) -> int:
    """The largest size that is not worse than the best one by more than a margin."""
    sign = 1 if metric.higher_is_better else -1
    return choose({size: sign * value for size, value in tried.items()}, margin)


def _told(
    before: int, state: MinibatchState, tried: dict[int, float], metric: Metric, wire: Wire
) -> Told:
    """A selection's event, and what people are told."""
    chosen = state.sampler.minibatch
    event = {
        "minibatch": chosen,
        "before": before,
        "sizes": [*tried],
        metric.plural: [finite_or_none(value) for value in tried.values()],
        **state.counts.search(),
        "trial_bytes": bytes_of_trials(wire.ledger),
    }
    return Told("selection", event, _line(before, chosen, tried, metric))


def bytes_of_trials(ledger: Ledger) -> int:
    """Bytes this worker has sent in trials."""
    return sum(part.bytes for name, part in ledger.stages.items() if name.startswith(TRIAL))


def seconds_of_trial(state: MinibatchState, fields: SelectionFields) -> float:
    """What the next step may take if it is a trial, from what steps have taken; 0 if it is none."""
    counts, untried = state.counts, state.selection.untried
    if not counts.steps or not (untried or _begins(state, fields)):
        return 0.0
    size = untried[0] if untried else max(1, state.sampler.minibatch // 2)
    by_step = counts.watch.seconds / counts.steps * math.ceil(fields.trial / size)
    by_sample = counts.watch.seconds / counts.samples * fields.trial
    return max(by_step, by_sample)


def _begins(state: MinibatchState, fields: SelectionFields) -> bool:
    due = state.selection.is_due(state.counts.samples, fields.every)
    return due and state.optimizer.phase == "steady"


def _try(
    size: int, trial: int, state: MinibatchState, task: Task, wire: Wire, train: Train
) -> tuple[float, int]:
    """Train on the next ``trial`` samples in minibatches of ``size``, and take it back.

    Returns:
        The deciding metric on these samples, each taken when it was trained on, the same on every
        worker; NaN where a gradient, an update, the loss or a parameter was not finite. And how
        many samples were trained on.
    """
    snapshot = Snapshot(state.optimizer, state.model, state.sampler)
    totals, done = torch.zeros(1 + task.sums + 2, dtype=torch.float64), 0
    value, finite = math.nan, True
    try:
        while finite and done < trial:
            state.sampler.minibatch = min(size, trial - done)
            minibatch = state.sampler.next_minibatch()
            finite = _all_finite(train(minibatch, totals[:-1]))
            done += len(minibatch)
        state.optimizer.flush()
        if finite and _all_finite([state.optimizer.last_step]):
            totals[-1] = sum(int((~p.isfinite()).sum()) for p in state.model.parameters())
            value = _value(wire.sum(totals, "evaluation"), task)
    except FloatingPointError:  # an update overflowed, on every worker alike
        pass
    snapshot.restore()
    return value, done


def _all_finite(reports: Sequence[StepReport | None]) -> bool:
    return not any(report is not None and report.nonfinite is not None for report in reports)


def _value(totals: Tensor, task: Task) -> float:
    """The deciding metric, NaN where the loss or a parameter was not finite."""
    samples, nonfinite = totals[-2:].tolist()
    scores = per_sample(totals[:-2], samples, task)
    value, loss = scores[task.decides.name], scores["loss"]
    if loss is None or not math.isfinite(loss) or nonfinite:
        return math.nan
    if value is None:
        raise ValueError(f"selection: expected {no_value(task)}")
    return value


def _line(before: int, chosen: int, tried: dict[int, float], metric: Metric) -> str:
    shown = {
        size: metric.text(value) if math.isfinite(value) else "failed"
        for size, value in tried.items()
    }
    found = ", ".join(f"{size}: {value}" for size, value in shown.items())
    return f"minibatch {before} -> {chosen} (training {metric.title} {found})"
