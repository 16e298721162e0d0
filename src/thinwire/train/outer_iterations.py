"""Outer iterations of Hessian-free optimisation: gradient -> solver -> direction -> update.

All of that happens inside ``HessianFree``; read ``optim/hessian_free.py`` next.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from torch import Tensor

from thinwire.exchange import Ledger, Wire, reshard, shared_wire, without_counts
from thinwire.optim import HessianFreeStep
from thinwire.train.build import build_hessian_free
from thinwire.train.checkpoint import MODEL, Checkpoint, Facts, read_tensors
from thinwire.train.counts import Counts
from thinwire.train.grid import Grid
from thinwire.train.objective import objective_of
from thinwire.train.prepare import Job
from thinwire.train.stored import stored_files, stored_parts, stored_states
from thinwire.train.tasks import Scores
from thinwire.train.training import Told

_LONGEST_FIRST_STEP = 30.0  # seconds granted, on a signal, to an iteration nobody has timed


class HessianFreeState:
    """One worker's state of a run.

    Attributes:
        model: the network.
        optimizer: with damping, the previous step and the ledger.
        counts: totals.
        last_epoch: the last iteration's evaluation.
    """

    def __init__(self, job: Job, world: int) -> None:
        self._rank = shared_wire(None, Ledger()).rank
        self.model = job.model
        self.optimizer = build_hessian_free(job.recipe, job.model)
        self.counts = Counts(sum(p.numel() for p in job.model.parameters()), world)
        self.last_epoch: dict[str, Any] = {}

    def replica(self) -> AbstractContextManager[None]:
        """The model is the same on all workers as it is."""
        return nullcontext()

    def shared(self) -> Facts:
        """What is the same on every worker, model apart, as JSON can say it."""
        return {
            "counts": self.counts.shared(),
            "param_groups": without_counts(self.optimizer.state_dict())["param_groups"],
            "last_epoch": self.last_epoch,
        }

    def own(self) -> tuple[dict[str, Tensor], Facts]:
        """What is this worker's: tensors by parameter and kind, and counts."""
        return stored_parts(self.optimizer.state_dict(), self._rank)

    def restore(self, checkpoint: Checkpoint, rank: int, world: int) -> None:
        """Go on from a checkpoint, whatever the number of workers that wrote it."""
        run = checkpoint.facts["run"]
        self.model.load_state_dict(read_tensors(checkpoint.folder / MODEL))
        states = stored_states(stored_files(checkpoint), run["param_groups"])
        self.optimizer.load_state_dict(reshard(states, rank, world))
        self.counts.restore(run["counts"])
        self.last_epoch = run["last_epoch"]


class HessianFreeTraining:
    """One worker's part of a run of outer iterations.

    Args:
        job: what ``prepare`` made.
        world: number of workers.
    """

    def __init__(self, job: Job, world: int) -> None:
        data = job.dataset.train
        self.state = HessianFreeState(job, world)
        self._optimizer = self.state.optimizer
        self._objective = objective_of(job.model, job.loss, data)
        self._samples, self._iterations = len(data), job.recipe.hessian_free.iterations

    @property
    def ledger(self) -> Ledger:
        """This worker's traffic."""
        return self._optimizer.ledger

    @property
    def grid(self) -> Grid:
        """Every worker has whole models and samples of its own."""
        return Grid()

    @property
    def finished(self) -> bool:
        """Whether all iterations are done."""
        return self.state.counts.steps >= self._iterations

    @property
    def epochs(self) -> float:
        """Effective passes: gradients and trials whole, products by their share of the samples."""
        return self._optimizer.passes

    @property
    def evaluation_due(self) -> bool:
        """After every iteration."""
        return True

    def expected_step_seconds(self) -> float:
        """The first iteration goes over all samples several times."""
        return _LONGEST_FIRST_STEP if self._optimizer.last_step is None else 0.0

    def step(self) -> list[Told]:
        """One outer iteration.

        Raises:
            FloatingPointError: the objective or its gradient is not finite where it begins.
        """
        self._optimizer.step(self._objective)
        step = self._optimizer.last_step
        assert step is not None
        counts = self.state.counts
        counts.steps += 1
        counts.samples = round(self.epochs * self._samples)
        return [Told("step", _fields(step))]

    def averages(self) -> Scores | None:
        """None: the model stands still between iterations, so all is evaluated."""
        return None

    def times(self, wire: Wire) -> dict[str, Any] | None:
        """None: the terms are those of minibatches."""
        return None

    def finish(self) -> list[Told] | None:
        """None: a step leaves nothing in flight."""
        return None

    def compare(self, wire: Wire, sent: float) -> dict[str, Any]:
        """A dense exchange of minibatches is no twin of these steps."""
        names = ("dense_bytes_per_worker", "compression", "compression_steady")
        return dict.fromkeys(names)

    def close(self) -> None:
        """Nothing to give back."""


def _fields(step: HessianFreeStep) -> dict[str, Any]:
    """A step's event: ``loss`` is the objective after it, as in every step event."""
    fields = asdict(step)
    for known in ("iteration", "passes", "vector_sums", "small_sums"):  # the counts say them
        del fields[known]
    return {**fields, "objective": step.loss}
