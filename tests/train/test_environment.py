from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import HashStore

from thinwire.train import Workers, detect_workers
from thinwire.train.environment import agree_on_attempt, rendezvous_variables


def test_alone() -> None:
    assert detect_workers({}) is None


def test_torchrun_goes_before_slurm() -> None:
    slurm = {"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_NODELIST": "n[2-5]"}
    assert detect_workers(slurm) == Workers(3, 8)
    assert detect_workers({**slurm, "RANK": "1", "WORLD_SIZE": "2"}) == Workers(1, 2)


def test_rendezvous_under_slurm_is_the_first_node() -> None:
    environment = {"SLURM_NODELIST": "gpu[017-019]", "SLURM_JOB_ID": "4242"}
    assert rendezvous_variables(Workers(3, 8), environment) == {
        "RANK": "3",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": "gpu017",
        "MASTER_PORT": "24242",
    }


def test_what_the_launcher_set_is_kept() -> None:
    environment = {"MASTER_ADDR": "here", "MASTER_PORT": "1"}
    assert rendezvous_variables(Workers(0, 2), environment) == {"RANK": "0", "WORLD_SIZE": "2"}


def test_nonsense_is_named() -> None:
    with pytest.raises(ValueError, match=r"\$RANK: expected a number, got 'first'"):
        detect_workers({"RANK": "first", "WORLD_SIZE": "2"})


def test_workers_that_start_again_do_not_meet_the_dead_ones() -> None:
    store = HashStore()
    store.set("thinwire/hello/2", "dead")  # died before it was answered
    names = []
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            start = [
                pool.submit(agree_on_attempt, store, Workers(rank, 3), timedelta(seconds=20))
                for rank in (1, 0, 2)
            ]
            names.append({future.result() for future in start})
    assert [len(name) for name in names] == [1, 1]
    assert names[0] != names[1]


def test_a_worker_that_does_not_join_is_named() -> None:
    with pytest.raises(RuntimeError, match="worker 1 did not join"):
        agree_on_attempt(HashStore(), Workers(0, 2), timedelta(seconds=0.1))
