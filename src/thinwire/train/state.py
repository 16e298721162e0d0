"""What a run of minibatches has that changes, and how it is stored and taken up again."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from thinwire.data import MinibatchSampler, order_of
from thinwire.exchange import Ledger, reshard, shared_wire, without_counts
from thinwire.exchange.reshard import add_rows
from thinwire.exchange.shards import local
from thinwire.models import grow
from thinwire.optim import LocalSteps
from thinwire.train.build import Optimizer, build_optimizer
from thinwire.train.checkpoint import MODEL, Checkpoint, Facts, read_tensors
from thinwire.train.counts import Counts
from thinwire.train.decay import Decay
from thinwire.train.grid import Grid
from thinwire.train.prepare import Job
from thinwire.train.pretraining import first_depth, stage_model, stage_seed
from thinwire.train.selection import Selection
from thinwire.train.split import load_whole, split_model
from thinwire.train.stored import inner_state, stored_files, stored_parts, stored_states
from thinwire.train.twin import DenseTwin

_TOTALS = ("since_event", "since_epoch")
_ADAPTIVE = ("selection", "decay")


class MinibatchState:
    """One worker's state of a run.

    Attributes:
        grid: who shares the samples, and who a model.
        depth: hidden layers of the network; pre-training has one stage for each.
        model: the network, or this worker's part of it.
        optimizer: with residuals, the owner's state, the ledger, and local steps' anchor.
        sampler: the stream of minibatches.
        scheduler: of the learning rate, by epochs.
        decay: of the learning rate, by held-out samples.
        selection: of the minibatch size; the size in use is the sampler's.
        counts: totals.
        twin: the dense exchange it is compared with.
        since_event: float64 [1 + task.sums + 1]: summed loss, what the task's metrics are made of,
            and samples, of this worker since the last step event.
        since_epoch: the same, from the epoch's beginning to the last step event.
        last_epoch: the last epoch's event.
    """

    def __init__(self, job: Job, world: int) -> None:
        self._job = job
        self._rank = shared_wire(None, Ledger()).rank
        self.grid = Grid(job.recipe.model_parallel, job.recipe.timeout)
        params = sum(parameter.numel() for parameter in job.model.parameters())
        self.counts = Counts(params, world)
        self.twin = DenseTwin(params, world // self.grid.ways, self.grid.ways)
        sums = 1 + job.task.sums + 1
        self.since_event = torch.zeros(sums, dtype=torch.float64)
        self.since_epoch = torch.zeros(sums, dtype=torch.float64)
        self.last_epoch: dict[str, Any] = {}
        self.selection = Selection()
        depth = first_depth(job.recipe)
        self._begin_stage(stage_model(job, depth), depth, None, job.recipe.minibatch)

    def deepen(self) -> None:
        """Begin the next stage: one more hidden layer, a new output layer, nothing carried over."""
        depth = self.depth + 1
        model = stage_model(self._job, depth)
        grow(self.model, model)
        self._begin_stage(model, depth, self.optimizer, self.sampler.minibatch)
        self.since_event.zero_()
        self.since_epoch.zero_()

    def _begin_stage(
        self, model: nn.Module, depth: int, before: Optimizer | None, minibatch: int
    ) -> None:
        recipe, samples = self._job.recipe, self._job.dataset.train
        self.model, self.depth = split_model(model, self.grid.mesh), depth
        self.optimizer = build_optimizer(recipe, self.model, self.grid.data_group, before)
        self.decay = Decay(self._rated, recipe.decay, self._job.task.decides)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(
            self._rated, recipe.optimizer.lr_decay
        )
        seed, order = stage_seed(recipe, depth), order_of(samples)
        self.sampler = MinibatchSampler(len(samples), minibatch, seed, order)
        held = sum(local(parameter).numel() for parameter in self.model.parameters())
        self.twin.params = held * self.grid.ways

    @property
    def _rated(self) -> torch.optim.Optimizer:
        """The optimiser whose learning rate schedules change."""
        if not isinstance(self.optimizer, LocalSteps):
            return self.optimizer
        assert isinstance(self.optimizer.inner, torch.optim.Optimizer), "a recipe has one"
        return self.optimizer.inner

    def replica(self) -> AbstractContextManager[None]:
        """While it lasts, the model is the one that all workers share: with local steps the anchor.

        Nothing may train meanwhile; afterwards every worker has its own parameters again.
        """
        if isinstance(self.optimizer, LocalSteps):
            return self.optimizer.at_anchor()
        return nullcontext()

    def shared(self) -> Facts:
        """What is the same on every worker, model apart, as JSON can say it."""
        of_rounds = {"inner_lr": self.optimizer.param_groups[0]["lr"]}
        return {
            **(of_rounds if isinstance(self.optimizer, LocalSteps) else {}),
            "depth": self.depth,
            "model_parallel": self.grid.ways,
            "counts": {**self.counts.shared(), **self.twin.shared()},
            "sampler": self.sampler.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            **{name: getattr(self, name).state_dict() for name in _ADAPTIVE},
            "param_groups": without_counts(self.optimizer.state_dict())["param_groups"],
            "last_epoch": self.last_epoch,
        }

    def own(self) -> tuple[dict[str, Tensor], Facts]:
        """What is this worker's: tensors by parameter and kind, and counts."""
        tensors, facts = stored_parts(self.optimizer.state_dict(), self._rank)
        tensors |= {name: getattr(self, name) for name in _TOTALS}
        return tensors, {**facts, "steady_from": vars(self.twin.steady_from)}

    def restore(self, checkpoint: Checkpoint, rank: int, world: int) -> None:
        """Go on from a checkpoint, whatever the number of workers that wrote it."""
        run = checkpoint.facts["run"]
        depth = run.get("depth", self.depth)
        if depth != self.depth:
            model = stage_model(self._job, depth)
            self._begin_stage(model, depth, self.optimizer, self.sampler.minibatch)
        files = stored_files(checkpoint)
        load_whole(self.model, read_tensors(checkpoint.folder / MODEL))
        states = stored_states(files, run["param_groups"])
        ways, data = self.grid.ways, self.grid.data(self.optimizer.ledger)
        state = reshard(states, data.rank, data.world, rank % ways, ways)
        if isinstance(self.optimizer, LocalSteps):
            groups = self._rated.state_dict()["param_groups"]
            of_inner = inner_state(files[rank % len(files)], run["param_groups"])
            groups[0]["lr"] = run["inner_lr"]
            state["inner"] = {"state": of_inner, "param_groups": groups}
        self.optimizer.load_state_dict(state)
        self.sampler.load_state_dict(run["sampler"])
        self.scheduler.load_state_dict(run["scheduler"])
        for name in _ADAPTIVE:
            if name in run:  # a former version's checkpoint has none
                getattr(self, name).load_state_dict(run[name])
        self.counts.restore(run["counts"])
        self.twin.restore(run["counts"], [file.facts["steady_from"] for file in files], rank)
        self.last_epoch = run["last_epoch"]
        of_models = files[:: run.get("model_parallel", 1)]  # all ranks of a model hold the same
        for name in _TOTALS:
            rows = [file[name] for file in of_models[data.rank :: data.world]]
            total = getattr(self, name)
            total.copy_(add_rows(rows) if rows else torch.zeros_like(total))
