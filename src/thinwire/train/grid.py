"""The grid of a job: workers that share the samples, by workers that share a model.

Worker r of W stands in row r // M (its data rank) and column r % M (its model rank). A row has one
model between its M workers and the same samples on all of them; a column has the same shards and
exchanges their gradients. S section 4.
"""

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from thinwire.exchange import CountCollectives, Ledger, Wire, shared_wire


def check_grid(workers: int, model_parallel: int) -> None:
    """Raise ValueError unless the workers fill whole rows."""
    if workers % model_parallel:
        who = f"{workers} workers do" if workers > 1 else "1 worker does"
        raise ValueError(f"model_parallel: {who} not divide into models of {model_parallel}")


class Grid:
    """This worker's row and column.

    Attributes:
        ways: workers that share a model, M.
        data_group: this worker's column; None is all workers.
        mesh: this worker's row, for ``parallelize_module``; None where models are not split.

    Args:
        ways: M.
        timeout: seconds a collective in a row or column may take.

    Raises:
        ValueError: the job's workers do not fill whole rows.
    """

    def __init__(self, ways: int = 1, timeout: float = 120.0) -> None:
        world = shared_wire(None, Ledger()).world
        check_grid(world, ways)
        self.ways = ways
        self.data_group: dist.ProcessGroup | None = None
        self.mesh: DeviceMesh | None = None
        if ways > 1:
            # Not init_device_mesh: its groups would wait half an hour for a worker that hangs.
            numbers, limit = torch.arange(world).view(-1, ways), timedelta(seconds=timeout)
            column, _ = dist.new_subgroups_by_enumeration(numbers.T.tolist(), timeout=limit)
            row, _ = dist.new_subgroups_by_enumeration(numbers.tolist(), timeout=limit)
            self.data_group = column
            mesh = DeviceMesh.from_group(
                [column, row], "cpu", numbers, mesh_dim_names=("data", "model")
            )
            self.mesh = mesh["model"]

    def data(self, ledger: Ledger) -> Wire:
        """The workers that share the samples."""
        return shared_wire(self.data_group, ledger)

    def model(self, ledger: Ledger) -> Wire:
        """The workers that share this one's model."""
        if self.mesh is None:
            return shared_wire(None, ledger).alone()
        return shared_wire(self.mesh.get_group(), ledger)

    def counting(self, ledger: Ledger) -> AbstractContextManager[object]:
        """While it lasts, what torch sends between model ranks is entered in the ledger."""
        if self.mesh is None:
            return nullcontext()
        return CountCollectives(self.model(ledger), "activations")
