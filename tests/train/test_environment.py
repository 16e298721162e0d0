import pytest

from thinwire.train import Workers, detect_workers
from thinwire.train.environment import rendezvous_variables


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
