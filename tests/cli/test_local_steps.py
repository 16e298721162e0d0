"""``thinwire train`` with local steps, as a user runs it."""

import re
from pathlib import Path

import pytest

from tests.cli.test_train import run, summary_of
from thinwire.report import load_run

SMALL = [
    *("--workers", "2", "--epochs", "2", "--minibatch", "61", "--log-every", "4"),
    *("--model.hidden", "300", "40", "--exchange.bucket-mb", "0.05"),
    *("--exchange.start", "4-bit", "--exchange.start-steps", "3"),
]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("delay", ["0", "3"])
def test_two_workers_stopped_in_a_round_and_rerun(
    idx_folder: Path, tmp_path: Path, delay: str
) -> None:
    command = ["train", "mnist-local", "--data", idx_folder, *SMALL, "--local.delay", delay]
    straight = run(*command, "--out", tmp_path / "a")
    assert straight.returncode == 0, straight.stderr
    often = ("--out", tmp_path / "b", "--checkpoint-every", "0.05")
    stopped = run(*command, *often, fault="SIGTERM:1:7")
    assert stopped.returncode == 143, stopped.stderr
    assert re.search(r"stopped by SIGTERM after step \d+", stopped.stdout)
    again = run(*command, *often, fault="nopickle:0:0")
    assert again.returncode == 0, again.stderr
    one, other = summary_of(tmp_path / "a"), summary_of(tmp_path / "b")
    assert one["params_sha256"] == other["params_sha256"]
    assert one["replicas_identical"] is True
    assert one["samples"] == 1200, "of shards that are uneven"
    stages = {part["stage"]: part for part in one["traffic"]}
    steady = 20 - 3  # after three rounds of one step; one more round ends with the run
    assert stages["gradients"]["collectives"] == 3 + -(-steady // 8)
    assert one["bytes_sent_per_worker"] == pytest.approx(
        sum(part["bytes"] for part in stages.values()), abs=len(stages)
    )
    assert load_run(tmp_path / "a").finished
    reported = run("report", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "both.html")
    assert reported.returncode == 0, reported.stderr
    assert "8 local steps" in reported.stdout
