"""What a run of minibatches has that changes, and how it is stored and taken up again."""

from typing import Any

import torch
from torch import Tensor

from thinwire.data import MinibatchSampler
from thinwire.exchange import Ledger, Wire, reshard, without_counts
from thinwire.exchange.reshard import add_rows
from thinwire.optim.shards import local
from thinwire.train.build import build_sgd
from thinwire.train.checkpoint import MODEL, Checkpoint, Facts, read_tensors
from thinwire.train.counts import Counts
from thinwire.train.grid import Grid
from thinwire.train.prepare import Job
from thinwire.train.split import load_whole, split_model
from thinwire.train.stored import stored_files, stored_parts, stored_states
from thinwire.train.twin import DenseTwin

_TOTALS = ("since_event", "since_epoch")


class MinibatchState:
    """One worker's state of a run.

    Attributes:
        grid: who shares the samples, and who a model.
        model: the network, or this worker's part of it.
        optimizer: with residuals, the owner's state and the ledger.
        sampler: the stream of minibatches.
        scheduler: of the learning rate.
        counts: totals.
        twin: the dense exchange it is compared with.
        since_event: float64 [3]: summed loss, errors and samples of this worker since the last
            step event.
        since_epoch: the same, from the epoch's beginning to the last step event.
        last_epoch: the last epoch's event.
    """

    def __init__(self, job: Job, world: int) -> None:
        self._rank = Wire(None, Ledger()).rank
        self.grid = Grid(job.recipe.model_parallel, job.recipe.timeout)
        self.model = split_model(job.model, self.grid.mesh)
        self.optimizer = build_sgd(job.recipe, self.model, self.grid.data_group)
        self.sampler = MinibatchSampler(
            len(job.dataset.train), job.recipe.minibatch, job.recipe.seed
        )
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(
            self.optimizer, job.recipe.optimizer.lr_decay
        )
        params = sum(parameter.numel() for parameter in job.model.parameters())
        self.counts = Counts(params, world)
        ways = self.grid.ways
        held = sum(local(parameter).numel() for parameter in self.model.parameters())
        self.twin = DenseTwin(held * ways, world // ways, ways)
        self.since_event = torch.zeros(3, dtype=torch.float64)
        self.since_epoch = torch.zeros(3, dtype=torch.float64)
        self.last_epoch: dict[str, Any] = {}

    def shared(self) -> Facts:
        """What is the same on every worker, model apart, as JSON can say it."""
        return {
            "model_parallel": self.grid.ways,
            "counts": {**self.counts.shared(), **self.twin.shared()},
            "sampler": self.sampler.state_dict(),
            "scheduler": self.scheduler.state_dict(),
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
        files = stored_files(checkpoint)
        load_whole(self.model, read_tensors(checkpoint.folder / MODEL))
        states = stored_states(files, run["param_groups"])
        ways, data = self.grid.ways, self.grid.data(self.optimizer.ledger)
        self.optimizer.load_state_dict(reshard(states, data.rank, data.world, rank % ways, ways))
        self.sampler.load_state_dict(run["sampler"])
        self.scheduler.load_state_dict(run["scheduler"])
        self.counts.restore(run["counts"])
        self.twin.restore(run["counts"], [file.facts["steady_from"] for file in files], rank)
        self.last_epoch = run["last_epoch"]
        of_models = files[:: run.get("model_parallel", 1)]  # all ranks of a model hold the same
        for name in _TOTALS:
            rows = [file[name] for file in of_models[data.rank :: data.world]]
            getattr(self, name).copy_(add_rows(rows) if rows else torch.zeros(3))
