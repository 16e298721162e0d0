"""Steps of minibatch SGD: batch -> sub-gradient -> exchange -> update.

Quantise, exchange, owner and apply all happen inside ``OneBitSGD``; read ``optim/exchanged.py``
next.
"""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from thinwire.data import shard
from thinwire.exchange import Ledger, Wire
from thinwire.optim import StepReport
from thinwire.train.counts import MODEL_STAGES
from thinwire.train.evaluate import batch_totals
from thinwire.train.grid import Grid
from thinwire.train.prepare import Job
from thinwire.train.state import MinibatchState
from thinwire.train.training import Told


class MinibatchTraining:
    """One worker's part of a run of minibatches.

    Args:
        job: what ``prepare`` made.
        world: number of workers.
    """

    def __init__(self, job: Job, world: int) -> None:
        self._job, self._recipe = job, job.recipe
        self.state = MinibatchState(job, world)
        self._optimizer, self._sampler = self.state.optimizer, self.state.sampler
        self._wire = self.state.grid.data(self._optimizer.ledger)
        self.evaluation_due = False

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
        """Whether all epochs are done."""
        return self._sampler.epoch >= self._recipe.epochs

    @property
    def epochs(self) -> float:
        """Passes over the training data."""
        return self.state.counts.samples / self._sampler.size

    def expected_step_seconds(self) -> float:
        """A minibatch is short."""
        return 0.0

    def step(self) -> list[Told]:
        """One minibatch: this worker's share of it through model and exchange."""
        before, minibatch = self.epochs, self._sampler.next_minibatch()
        self._train(minibatch)
        report = self._optimizer.last_step
        assert report is not None
        counts = self.state.counts
        counts.steps += 1
        counts.samples += len(minibatch)
        self.state.twin.add_step(report.phase, self.ledger)
        told = []
        if report.nonfinite is not None:
            counts.skipped += 1
            told.append(_skip(counts.steps, *report.nonfinite))
        if counts.steps % self._recipe.log_every == 0:
            told.append(self._report(report))
        epoch_ends = self._sampler.position == 0
        if epoch_ends:
            self.state.scheduler.step()
        every = self._recipe.evaluate_every
        self.evaluation_due = epoch_ends if every is None else _passed(before, self.epochs, every)
        self.evaluation_due |= self.finished
        return told

    def averages(self) -> tuple[float, float] | None:
        """Over the minibatches of the epoch, while the model was changing."""
        if self._recipe.evaluate_every is not None:
            return None
        self._fold()
        found = self._mean(self.state.since_epoch)
        self.state.since_epoch.zero_()
        return found

    def compare(self, wire: Wire, sent: float) -> dict[str, Any]:
        """The dense exchange's bytes, and how many times fewer were sent."""
        return self.state.twin.compare(wire, sent)

    def close(self) -> None:
        """End the communication thread."""
        self._optimizer.close()

    def _train(self, minibatch: Tensor) -> None:
        self._optimizer.zero_grad()
        self._optimizer.measure = (self.state.counts.steps + 1) % self._recipe.log_every == 0
        share = self._share(minibatch)
        self._optimizer.samples = len(share)
        if len(share):
            data = self._job.dataset.train
            targets = data.targets[share]
            logits = self.state.model(data.inputs[share])
            F.cross_entropy(logits, targets).backward()  # hands over each bucket when complete
            self.state.since_event[:2] += batch_totals(logits, targets)
            self.state.since_event[2] += len(share)
        self._optimizer.step()

    def _share(self, minibatch: Tensor) -> Tensor:
        if self._optimizer.phase == "serial":
            return minibatch if self._wire.rank == 0 else minibatch[:0]
        return shard(minibatch, self._wire.rank, self._wire.world)

    def _report(self, report: StepReport) -> Told:
        loss, error = self._mean(self.state.since_event)
        self._fold()
        sent = self.ledger.total().bytes - self.ledger.total(*MODEL_STAGES).bytes
        fields = {
            "compression": self.state.twin.bytes_per_worker / sent if sent else None,
            "loss": loss,
            "error": error,
            "lr": float(self._optimizer.param_groups[0]["lr"]),
            "phase": report.phase,
            "residual_ratio": report.residual_ratio,
            "skipped": self.state.counts.skipped,
        }
        return Told("step", fields)

    def _fold(self) -> None:
        self.state.since_epoch += self.state.since_event
        self.state.since_event.zero_()

    def _mean(self, totals: Tensor) -> tuple[float, float]:
        """Loss and error per sample over all workers."""
        loss, errors, samples = self._wire.sum(totals, "evaluation").tolist()
        return loss / max(samples, 1), errors / max(samples, 1)


def _skip(step: int, worker: int, parameter: str) -> Told:
    line = f"step {step} skipped by all: worker {worker} has a non-finite gradient in {parameter}"
    return Told("skip", {"worker": worker, "parameter": parameter}, line)


def _passed(before: float, after: float, every: float) -> bool:
    """Whether a multiple of ``every`` lies in (before, after].

    >>> _passed(0.9, 1.0, 0.5), _passed(0.5, 0.9, 0.5)
    (True, False)
    """
    tiny = 1e-9
    return int(after / every + tiny) > int(before / every + tiny)
