"""What a run of minibatches has that changes, and how it is stored and taken up again."""

from typing import Any

import torch
from torch import Tensor, nn

from thinwire.data import MinibatchSampler
from thinwire.exchange import Ledger, reshard, shared_wire, without_counts
from thinwire.exchange.reshard import add_rows
from thinwire.exchange.shards import local
from thinwire.models import grow
from thinwire.optim import OneBitSGD
from thinwire.train.build import build_sgd
from thinwire.train.checkpoint import MODEL, Checkpoint, Facts, read_tensors
from thinwire.train.counts import Counts
from thinwire.train.decay import Decay
from thinwire.train.grid import Grid
from thinwire.train.prepare import Job
from thinwire.train.pretraining import first_depth, stage_model, stage_seed
from thinwire.train.selection import Selection
from thinwire.train.split import load_whole, split_model
from thinwire.train.stored import stored_files, stored_parts, stored_states
from thinwire.train.twin import DenseTwin

_TOTALS = ("since_event", "since_epoch")
_ADAPTIVE = ("selection", "decay")


class MinibatchState:
    """One worker's state of a run.

    Attributes:
        grid: who shares the samples, and who a model.
        depth: hidden layers of the network; pre-training has one stage for each.
        model: the network, or this worker's part of it.
        optimizer: with residuals, the owner's state and the ledger.
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
        self, model: nn.Module, depth: int, before: OneBitSGD | None, minibatch: int
    ) -> None:
        recipe, size = self._job.recipe, len(self._job.dataset.train)
        self.model, self.depth = split_model(model, self.grid.mesh), depth
        self.optimizer = build_sgd(recipe, self.model, self.grid.data_group, before)
        self.sampler = MinibatchSampler(size, minibatch, stage_seed(recipe, depth))
        self.decay = Decay(self.optimizer, recipe.decay, self._job.task.decides)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(
            self.optimizer, recipe.optimizer.lr_decay
        )
        held = sum(local(parameter).numel() for parameter in self.model.parameters())
        self.twin.params = held * self.grid.ways

    def shared(self) -> Facts:
        """What is the same on every worker, model apart, as JSON can say it."""
        return {
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
        self.optimizer.load_state_dict(reshard(states, data.rank, data.world, rank % ways, ways))
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
