"""Workers that are slow are waited for, workers that are frozen are not."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_safe_start import command, environment, family, wait_for
from tests.cli.test_train import FAULTS, summary_of, train
from thinwire.report import read_events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.support("a worker that is frozen, with --max-restarts", "trainer")
def test_a_frozen_worker_is_ended_and_all_start_again(idx_folder: Path, tmp_path: Path) -> None:
    straight, frozen = tmp_path / "straight", tmp_path / "frozen"
    assert train(straight, idx_folder, "--workers", "2").returncode == 0
    arguments = ("--workers", "2", "--max-restarts", "1", "--checkpoint-every", "0")
    done = train(frozen, idx_folder, *arguments, "--timeout", "5", fault="freezeonce:1:12")
    assert done.returncode == 0, done.stderr
    assert "lost contact with worker 1" in done.stderr
    assert "written by 2 workers" in done.stdout
    assert summary_of(frozen)["params_sha256"] == summary_of(straight)["params_sha256"]


@pytest.mark.support("a worker that takes longer than --timeout to evaluate or to save", "trainer")
@pytest.mark.parametrize(
    ("place", "rank"),
    [("evaluate", 0), ("evaluate", 1), ("save", 0), ("save", 1), ("summary", 0)],
)
def test_a_worker_that_takes_longer_than_a_collective_may_is_waited_for(
    idx_folder: Path, tmp_path: Path, place: str, rank: int
) -> None:
    here = tmp_path / "slow"
    fault = {"fault": f"slow@{place}:{rank}:12", "THINWIRE_SLOW": str(here)}
    done = train(tmp_path / "run", idx_folder, "--workers", "2", "--timeout", "5", **fault)
    assert done.returncode == 0, done.stderr
    assert here.exists(), "it has been slow"
    assert "lost contact" not in done.stderr
    kinds = [event["event"] for event in read_events(tmp_path / "run" / "events.jsonl")]
    assert kinds.count("epoch") == 2
    assert "not written" not in done.stdout


def test_ctrl_c_while_workers_join(idx_folder: Path, tmp_path: Path) -> None:
    here = tmp_path / "slow"
    fault = {"THINWIRE_FAULT": "slow@join:1:1000", "THINWIRE_SLOW": str(here)}
    job = subprocess.Popen(
        command(idx_folder, tmp_path / "run", "--workers", "2", "--timeout", "1000"),
        env=environment(PYTHONPATH=str(FAULTS), **fault),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(here.exists)
        processes = family(job.pid)
        assert len(processes) == 3
        job.send_signal(signal.SIGINT)
        _, said = job.communicate(timeout=60)  # its workers would wait for much longer
    finally:
        job.kill()
        job.wait()
    assert job.returncode == 130, said
    assert "Traceback" not in said
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]


def test_ctrl_c_on_a_worker_of_another_launcher_that_waits_for_the_others(
    idx_folder: Path, tmp_path: Path
) -> None:
    here = tmp_path / "slow"
    fault = {"THINWIRE_FAULT": "slow@join:0:0", "THINWIRE_SLOW": str(here)}
    store = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(28000 + os.getpid() % 900)}
    job = subprocess.Popen(
        command(idx_folder, tmp_path / "run", "--timeout", "1000"),
        env=environment(PYTHONPATH=str(FAULTS), RANK="0", WORLD_SIZE="2", **store, **fault),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(here.exists)
        job.send_signal(signal.SIGINT)
        _, said = job.communicate(timeout=60)  # it would wait for much longer
    finally:
        job.kill()
        job.wait()
    assert job.returncode == -signal.SIGINT, said
    assert "Traceback" not in said
