"""Workers that wait for one of them do not take each other for lost."""

import time
from datetime import timedelta

import pytest
import torch.distributed as dist

from tests.conftest import RunRanks
from thinwire.exchange import Ledger, shared_wire
from thinwire.train import agreement
from thinwire.train.agreement import keeping_in_touch


def slow_first_worker(rank: int, world: int) -> int:
    """Worker 0 takes longer than a collective may take; the others have nothing to do."""
    agreement._IN_TOUCH = 0.2
    group = dist.new_group(timeout=timedelta(seconds=2))
    wire = shared_wire(group, Ledger())

    def work() -> int:
        time.sleep(5 if rank == 0 else 0)
        return rank

    return keeping_in_touch(work, wire)


@pytest.mark.slow
def test_one_workers_long_work_is_waited_for(run_ranks: RunRanks) -> None:
    assert run_ranks(3, slow_first_worker) == [0, 1, 2]


def failing_worker(rank: int, world: int) -> str:
    def work() -> None:
        if rank == 1:
            raise MemoryError("here")

    try:
        keeping_in_touch(work, shared_wire(None, Ledger()))
    except MemoryError as error:
        return str(error)
    return "went on"


def test_a_worker_whose_work_fails_has_the_error_and_nobody_hangs(run_ranks: RunRanks) -> None:
    assert run_ranks(2, failing_worker) == ["went on", "here"]
