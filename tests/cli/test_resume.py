"""``thinwire train`` stopped, killed and started again, as processes and launchers do it."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_train import FAULTS, SMALL, run, summary_of, train
from thinwire.report import read_events


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, idx_folder: Path) -> dict[str, Any]:
    """The summary of an undisturbed run of two workers."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    done = train(folder, idx_folder, "--workers", "2")
    assert done.returncode == 0, done.stderr
    return summary_of(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stopped_launcher_leaves_a_checkpoint_and_the_rerun_equals_the_undisturbed_run(
    straight: dict[str, Any], idx_folder: Path, tmp_path: Path, name: str
) -> None:
    often = ("--workers", "2", "--checkpoint-every", "0.05")  # which also makes them agree often
    done = train(tmp_path, idx_folder, *often, fault=f"{name}:1:7")
    assert done.returncode == {"SIGTERM": 143, "SIGINT": 130}[name]
    step = re.search(rf"stopped by {name} after step (\d+); the same command goes on", done.stdout)
    assert step is not None, done.stdout
    assert not (tmp_path / "summary.json").exists()
    again = train(tmp_path, idx_folder, "--workers", "2", fault="nopickle:0:0")
    assert again.returncode == 0, again.stderr
    assert f"step {step[1]}, written by 2 workers" in again.stdout
    assert summary_of(tmp_path)["params_sha256"] == straight["params_sha256"]
    assert summary_of(tmp_path)["train_loss"] == straight["train_loss"]


@pytest.mark.slow
def test_killed_workers_start_again_and_the_run_equals_the_undisturbed_one(
    straight: dict[str, Any], idx_folder: Path, tmp_path: Path
) -> None:
    arguments = ("--workers", "2", "--max-restarts", "1", "--checkpoint-every", "0")
    done = train(tmp_path, idx_folder, *arguments, fault="killonce:1:12")
    assert done.returncode == 0, done.stderr
    assert re.search(r"going on from .*: step 1[12], written by 2 workers", done.stdout)
    assert summary_of(tmp_path)["params_sha256"] == straight["params_sha256"]
    starts = [e for e in read_events(tmp_path / "events.jsonl") if e["event"] == "start"]
    assert len(starts) == 2


def start_alone(folder: Path, data: Path, *args: str) -> "subprocess.Popen[str]":
    """One worker that would train for long."""
    command = [sys.executable, "-m", "thinwire", "train", "mnist-onebit", "--data", str(data)]
    return subprocess.Popen(
        [*command, "--out", str(folder), *SMALL, "--epochs", "100000", *args],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_steps(folder: Path, start: int = 1) -> None:
    """Until the run has reported a step after having been started so many times."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        events = folder / "events.jsonl"
        starts = events.read_text().split('"event":"start"') if events.exists() else []
        if len(starts) > start and '"event":"step"' in starts[-1]:
            return
        time.sleep(0.05)
    raise TimeoutError("the run does not begin")


def test_ctrl_c_on_one_worker(idx_folder: Path, tmp_path: Path) -> None:
    process = start_alone(tmp_path, idx_folder)
    wait_for_steps(tmp_path)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "stopped by SIGINT after step" in printed
    assert not errors
    assert len([*(tmp_path / "checkpoints").iterdir()]) == 1


STUCK = """
import signal, time
from thinwire.train.stop import StopSignals
from thinwire.train import stop
stop.PATIENCE = 1.0
with StopSignals():
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    {more}
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [("signal.raise_signal(signal.SIGINT)", 130, ""), ("", 1, "Timeout")],
    ids=["another signal", "no answer"],
)
def test_a_worker_that_cannot_stop_is_ended(more: str, code: int, said: str) -> None:
    started = time.monotonic()
    command = [sys.executable, "-c", STUCK.format(more=more)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert time.monotonic() - started < 40


BUSY = """
import signal, time
from thinwire.train.stop import StopSignals
from thinwire.train import stop
stop.PATIENCE = 0.5
with StopSignals() as stopping:
    {before}
    with stopping.long_work():
        {within}
        time.sleep(2)
        print("ended", flush=True)
    time.sleep(60)
"""
TOLD = "signal.raise_signal(signal.SIGTERM); time.sleep(0.1)"


@pytest.mark.support("SIGTERM while an evaluation or a checkpoint takes long", "trainer")
@pytest.mark.parametrize(("before", "within"), [(TOLD, ""), ("", TOLD)])
def test_long_work_is_no_hang(before: str, within: str) -> None:
    """The work ends, and only what comes after it without an answer is given up."""
    code = BUSY.format(before=before or "pass", within=within or "pass")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout == "ended\n"
    assert done.returncode == 1
    assert "Timeout" in done.stderr


def test_a_checkpoint_that_is_asked_for_and_cannot_be_used_is_a_mistake(
    idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from thinwire.cli import main

    arguments = ["train", "mnist-onebit", "--data", str(idx_folder), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--resume", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert "manifest.json is missing" in error


# --- chaos ----------------------------------------------------------------------------------------


def workers_of(launcher: int) -> list[int]:
    """Process numbers of a launcher's children."""
    listed = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [int(pid) for pid in listed]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(3))
def test_kill_9_of_a_random_worker_at_random_moments(
    idx_folder: Path, tmp_path: Path, seed: int
) -> None:
    """Under torchrun with restarts: the run completes and equals the undisturbed one."""
    chance = random.Random(seed)
    world = 2 + seed % 2
    long = ["--epochs", "100", "--checkpoint-every", "0.3", "--log-every", "100"]
    undisturbed = train(tmp_path / "a", idx_folder, "--workers", str(world), *long)
    assert undisturbed.returncode == 0, undisturbed.stderr
    arguments = ["mnist-onebit", "--data", str(idx_folder), "--out", str(tmp_path / "b"), *SMALL]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    process = subprocess.Popen(
        [
            *(*torchrun, "--nproc-per-node", str(world), "--max-restarts", "9"),
            *("-m", "thinwire", "train", *arguments, *long),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FAULTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for _ in range(3):
        time.sleep(chance.uniform(0.5, 7))
        if process.poll() is None and (victims := workers_of(process.pid)):
            os.kill(chance.choice(victims), signal.SIGKILL)
    printed, _ = process.communicate(timeout=110)
    assert process.returncode == 0, printed
    assert (
        summary_of(tmp_path / "b")["params_sha256"] == summary_of(tmp_path / "a")["params_sha256"]
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_stopped_by_signals_at_random_moments_with_changing_workers(
    idx_folder: Path, tmp_path: Path
) -> None:
    """It always goes on; the workers of every start agree."""
    chance = random.Random(1)
    long = ["--epochs", "400", "--log-every", "20"]
    for start, world in enumerate((4, 2, 3, 1), start=1):
        command = [sys.executable, "-m", "thinwire", "train", "mnist-onebit", *SMALL, *long]
        process = subprocess.Popen(
            [*command, "--workers", str(world), "--data", idx_folder, "--out", tmp_path],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_for_steps(tmp_path, start)
        time.sleep(chance.uniform(0, 1))
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 143, printed
    done = run("train", tmp_path / "config.toml")
    assert done.returncode == 0, done.stderr
    assert summary_of(tmp_path)["steps"] == 4000
