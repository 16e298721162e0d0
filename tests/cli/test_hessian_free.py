"""``thinwire train mnist-hf-...`` as processes: a worker lost in a solve, signals, restarts."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_train import run, summary_of

SMALL = [
    *("--hessian-free.iterations", "4", "--hessian-free.curvature-batch", "100"),
    *("--hessian-free.curvature", "sharded", "--model.hidden", "12", "--workers", "2"),
]


def train(folder: Path, data: Path, *args: str, **more: Any) -> Any:
    common = ["--data", data, "--out", folder, *SMALL, *args]
    return run("train", "mnist-hf-gauss-newton", *common, **more)


@pytest.mark.slow
def test_a_worker_that_dies_during_a_solve_ends_the_job_and_is_named(
    idx_folder: Path, tmp_path: Path
) -> None:
    done = train(tmp_path, idx_folder, fault="kill@product:1:15")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "worker 1 was killed by SIGKILL"


@pytest.mark.slow
def test_a_worker_that_hangs_during_a_solve_ends_the_job_and_is_named(
    idx_folder: Path, tmp_path: Path
) -> None:
    done = train(tmp_path, idx_folder, "--timeout", "4", fault="hang@product:1:15")
    assert done.returncode == 1
    assert "lost contact with worker 1" in done.stderr.strip().splitlines()[-1]


@pytest.mark.timeout(300)  # it starts four jobs one after the other
@pytest.mark.slow
def test_a_signal_or_a_lost_worker_during_a_solve_changes_nothing(
    idx_folder: Path, tmp_path: Path
) -> None:
    straight, stopped, killed = (tmp_path / name for name in ("straight", "stopped", "killed"))
    long = ("--hessian-free.iterations", "60")  # longer than a launcher takes to hand on a signal
    assert train(straight, idx_folder, *long).returncode == 0
    often = (*long, "--checkpoint-every", "0")
    done = train(stopped, idx_folder, *often, fault="SIGTERM@product:1:15")
    assert done.returncode == 143, done.stderr
    step = re.search(r"stopped by SIGTERM after step (\d+)", done.stdout)
    assert step is not None, done.stdout
    assert train(stopped, idx_folder, *long).returncode == 0
    restarts = ("--max-restarts", "1", *often)
    done = train(killed, idx_folder, *restarts, fault="killonce@product:1:25")
    assert done.returncode == 0, done.stderr
    assert "going on from" in done.stdout
    expected = summary_of(straight)["params_sha256"]
    assert summary_of(stopped)["params_sha256"] == expected
    assert summary_of(killed)["params_sha256"] == expected
