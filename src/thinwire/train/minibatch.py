"""Steps of minibatch SGD: batch -> sub-gradient -> exchange -> update.

Quantise, exchange, owner and apply all happen inside ``OneBitSGD``; read ``optim/exchanged.py``
next. With double buffering a minibatch is two halves, each of which lands in the next one's step.
With local steps the update is the worker's own and rounds are exchanged inside ``LocalSteps``.
"""

import time
from typing import Any

import torch
from torch import Tensor

from thinwire.data import DataSource, MinibatchSampler, shard
from thinwire.exchange import SERIAL, Ledger, Wire
from thinwire.optim import LocalSteps, StepReport
from thinwire.optim.objective import draw_seed
from thinwire.train.breakdown import Breakdown, per_step
from thinwire.train.build import Optimizer
from thinwire.train.counts import MODEL_STAGES
from thinwire.train.evaluate import batch_totals, evaluate, no_value, per_sample
from thinwire.train.grid import Grid
from thinwire.train.halves import halves
from thinwire.train.prepare import Job
from thinwire.train.pretraining import full_depth, stage_is_over, stage_name
from thinwire.train.state import MinibatchState
from thinwire.train.tasks import Scores, reported
from thinwire.train.training import Told
from thinwire.train.trials import bytes_of_trials, seconds_of_trial, select


class MinibatchTraining:
    """One worker's part of a run of minibatches.

    Args:
        job: what ``prepare`` made.
        world: number of workers.
    """

    def __init__(self, job: Job, world: int) -> None:
        self._job, self._recipe = job, job.recipe
        self.state = MinibatchState(job, world)
        self._wire = self.state.grid.data(self._optimizer.ledger)
        _check_start(job, world // self.state.grid.ways)
        self.evaluation_due = False
        self._breakdown = Breakdown(self.state.counts, self._optimizer.times)
        self._told = self._steady = self._now = self._breakdown.read()

    @property
    def _optimizer(self) -> Optimizer:
        return self.state.optimizer

    @property
    def _sampler(self) -> MinibatchSampler:
        return self.state.sampler

    @property
    def ledger(self) -> Ledger:
        """This worker's traffic."""
        return self._optimizer.ledger

    @property
    def grid(self) -> Grid:
        """Who shares the samples, and who a model."""
        return self.state.grid

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or held-out samples have ended training before."""
        last = self.state.depth == full_depth(self._recipe)
        return last and (self._sampler.epoch >= self._recipe.epochs or self.state.decay.ended)

    @property
    def epochs(self) -> float:
        """Passes over the training data."""
        return self.state.counts.samples / self._sampler.size

    def expected_step_seconds(self) -> float:
        """A minibatch is short; a trial of a minibatch size need not be."""
        return seconds_of_trial(self.state, self._recipe.selection)

    def step(self) -> list[Told]:
        """One minibatch; or, where the minibatch size is to be chosen, one trial of a size."""
        self.evaluation_due = False
        before = self._breakdown.read()
        told = select(self.state, self._recipe.selection, self._job.task, self._wire, self._train)
        trial = self._breakdown.read() - before  # is no part of a step
        self._told, self._steady = self._told + trial, self._steady + trial
        return told if self.state.selection.untried else told + self._step()

    def _step(self) -> list[Told]:
        """This worker's share of a minibatch through model and exchange."""
        told = self._begin_stage()
        before, minibatch = self.epochs, self._sampler.next_minibatch()
        phase, counts = self._optimizer.phase, self.state.counts
        if self._now[0] == 0:  # the first step, maybe of a run that was taken up
            self._told = self._steady = self._breakdown.read()
        logged = (counts.steps + 1) % self._recipe.log_every == 0
        reports = self._train(minibatch, self.state.since_event, measure=logged)
        late = len(reports) > 1
        counts.steps += 1
        counts.samples += len(minibatch)
        self.state.twin.add_step(phase, self.ledger)
        # What the first half's step ended was the last half of the minibatch before.
        told += self._skips(reports, [counts.steps - late, counts.steps])
        self._now = self._breakdown.read()
        self._steady = self._steady if phase == "steady" else self._now
        if counts.steps % self._recipe.log_every == 0:
            told.append(self._report(phase, self._reported(reports)))
        epoch_ends = self._sampler.position == 0
        if epoch_ends:
            self.state.scheduler.step()
        self.evaluation_due = self._evaluation_due(before, epoch_ends)
        held_out, last = self._job.dataset.held_out, self.state.depth == full_depth(self._recipe)
        if held_out is not None and last and self.evaluation_due:
            told += self.state.decay.note(self._deciding(held_out))
        return told

    def _begin_stage(self) -> list[Told]:
        """Add a layer when a stage of pre-training is over."""
        state, told = self.state, []
        if stage_is_over(self._recipe, state.depth, state.sampler):
            told = self.finish() or []
            state.deepen()
        begins = state.sampler.epoch == state.sampler.position == 0
        if begins and self._recipe.model.pretrain:
            name = stage_name(self._recipe, state.depth)
            line = f"{name} from step {state.counts.steps + 1}"
            told.append(Told("phase", {"name": name}, line))
        return told

    def _evaluation_due(self, before: float, epoch_ends: bool) -> bool:
        if self._optimizer.phase == SERIAL and self._wire.world > 1 and not self.finished:
            return False  # worker 0 alone has the model
        every = self._recipe.evaluate_every
        due = epoch_ends if every is None else _passed(before, self.epochs, every)
        over = stage_is_over(self._recipe, self.state.depth, self._sampler)
        return due or over or self.finished

    def averages(self) -> Scores | None:
        """Over the minibatches of the epoch, while the model was changing."""
        if self._recipe.evaluate_every is not None:
            return None
        self._fold()
        found = self._mean(self.state.since_epoch)
        self.state.since_epoch.zero_()
        return found

    def times(self, wire: Wire) -> dict[str, Any] | None:
        """Seconds of a mean step since the cold start, or since the run was taken up."""
        return per_step(wire.sum(self._now - self._steady, "evaluation") / wire.world)

    def finish(self) -> list[Told] | None:
        """Apply the half or the round that is still in flight, and end the round that has begun."""
        optimizer = self._optimizer
        optimizer.flush()
        reports = [optimizer.last_step]
        if isinstance(optimizer, LocalSteps) and optimizer.steps_in_round:
            optimizer.end_round()
            reports.append(optimizer.last_step)
        if not any(reports):
            return None
        return self._skips(reports, [self.state.counts.steps] * len(reports))

    def compare(self, wire: Wire, sent: float) -> dict[str, Any]:
        """The dense exchange's bytes and how many times fewer were sent; what trials have cost."""
        found = {**self.state.twin.compare(wire, sent), "minibatch": self._sampler.minibatch}
        if self._recipe.selection.every:
            own = torch.tensor([bytes_of_trials(self.ledger)], dtype=torch.float64)
            trial_bytes = float(wire.sum(own, "evaluation")) / wire.world
            found |= {**self.state.counts.search(), "trial_bytes_per_worker": round(trial_bytes)}
        return found

    def close(self) -> None:
        """End the communication thread."""
        self._optimizer.close()

    def _deciding(self, source: DataSource) -> float:
        """The metric that decides, measured on a source."""
        task = self._job.task
        with self.state.replica():
            scores = evaluate(self.state.model, source, self._wire, self._job.loss, task)
        value = scores[task.decides.name]
        if value is None:
            raise ValueError(f"decay.held_out: expected {no_value(task)}")
        return value

    def _train(
        self, minibatch: Tensor, totals: Tensor, *, measure: bool = False
    ) -> list[StepReport | None]:
        """Exchange and update by a minibatch, whole or in halves.

        Args:
            minibatch: numbers of samples, of all workers.
            totals: float64 [1 + task.sums + 1]; this worker's loss, sums and samples are added.
            measure: have the report hold residual ratios.

        Returns:
            What each part's step ended, if anything.
        """
        # Dropout and the like: the same in a run that was stopped.
        purpose = f"worker {self._wire.rank}"
        torch.manual_seed(draw_seed(self._recipe.seed, purpose, self.state.counts.steps))
        reports = []
        for place, part in enumerate(halves(minibatch) if self._late else [minibatch]):
            self._optimizer.zero_grad()
            # A half is measured, and lands. A round may end in a step that is not logged.
            self._optimizer.measure = self._in_rounds or (measure and place == 0)
            share = self._share(part)
            self._optimizer.samples = len(share)
            if len(share):
                self._backward(share, totals)
            self._optimizer.step()
            reports.append(self._optimizer.last_step)
        return reports

    @property
    def _late(self) -> bool:
        """Whether updates land a half-minibatch late."""
        return self._recipe.exchange.double_buffer and self._optimizer.phase == "steady"

    @property
    def _in_rounds(self) -> bool:
        """Whether workers take local steps."""
        return isinstance(self._optimizer, LocalSteps)

    def _reported(self, reports: list[StepReport | None]) -> StepReport | None:
        """What an event tells of: the last part's step, or the last round."""
        optimizer = self._optimizer
        return optimizer.last_round if isinstance(optimizer, LocalSteps) else reports[-1]

    def _backward(self, share: Tensor, totals: Tensor) -> None:
        started, exchanging = time.perf_counter(), self._optimizer.times.own_seconds()
        inputs, targets = self._job.dataset.train.batch(share)
        outputs = self.state.model(inputs)
        loss = self._job.loss(outputs, targets)
        loss.backward()  # hands over each bucket when complete
        exchanging -= self._optimizer.times.own_seconds()
        self._breakdown.frm += time.perf_counter() - started + exchanging
        self._breakdown.samples += len(share)
        totals[:-1] += batch_totals(loss, outputs, targets, self._job.task)
        totals[-1] += len(share)

    def _share(self, minibatch: Tensor) -> Tensor:
        if self._optimizer.phase == SERIAL:
            return minibatch if self._wire.rank == 0 else minibatch[:0]
        return shard(minibatch, self._wire.rank, self._wire.world)

    def _skips(self, reports: list[StepReport | None], steps: list[int]) -> list[Told]:
        """Count and tell what was skipped; ``steps`` are those the reports are of."""
        told = []
        for report, step in zip(reports, steps, strict=False):
            if report is not None and report.nonfinite is not None:
                self.state.counts.skipped += 1
                told.append(_skip(step, *report.nonfinite, in_rounds=self._in_rounds))
        return told

    def _report(self, phase: str, report: StepReport | None) -> Told:
        scores = reported(self._job.task, self._mean(self.state.since_event))
        self._fold()
        sent = self.ledger.total().bytes - self.ledger.total(*MODEL_STAGES).bytes
        since, self._told = self._now - self._told, self._now
        compared = sent and phase != SERIAL  # while worker 0 trains alone there is nothing to send
        fields = {
            "compression": self.state.twin.bytes_per_worker / sent if compared else None,
            **scores,
            "minibatch": self._sampler.minibatch,
            "lr": float(self._optimizer.param_groups[0]["lr"]),
            "phase": phase,
            "residual_ratio": report.residual_ratio if report else None,
            "skipped": self.state.counts.skipped,
            "times": per_step(since),
        }
        return Told("step", fields)

    def _fold(self) -> None:
        self.state.since_epoch += self.state.since_event
        self.state.since_event.zero_()

    def _mean(self, totals: Tensor) -> Scores:
        """Loss and metrics over all workers."""
        over_all = self._wire.sum(totals, "evaluation")
        return per_sample(over_all[:-1], float(over_all[-1]), self._job.task)


def _skip(step: int, worker: int, parameter: str, *, in_rounds: bool) -> Told:
    who = f"by all: worker {worker} has a non-finite"
    line = f"step {step} skipped {who} gradient in {parameter}"
    if in_rounds:
        line = f"round dropped in step {step} {who} value in {parameter}"
    return Told("skip", {"step": step, "worker": worker, "parameter": parameter}, line)


def _check_start(job: Job, workers: int) -> None:
    """Raise ValueError if worker 0 would still be alone with the model when the run is over."""
    exchange, samples = job.recipe.exchange, job.recipe.epochs * len(job.dataset.train)
    alone = exchange.start == SERIAL and not job.recipe.model.pretrain
    asked = exchange.start_samples or exchange.start_steps * job.recipe.minibatch
    if workers > 1 and alone and asked > samples:
        unit = "start_samples" if exchange.start_samples else "start_steps"
        raise ValueError(
            f"exchange.{unit}: expected a start of at most the {samples:,} samples of the run, or "
            f"another exchange.start than serial, got {asked:,} samples"
        )


def _passed(before: float, after: float, every: float) -> bool:
    """Whether a multiple of ``every`` lies in (before, after].

    >>> _passed(0.9, 1.0, 0.5), _passed(0.5, 0.9, 0.5)
    (True, False)
    """
    tiny = 1e-9
    return int(after / every + tiny) > int(before / every + tiny)
