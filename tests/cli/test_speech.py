"""``thinwire train`` on a Kaldi folder of which a part fits into the memory it may use."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.test_train import run, summary_of, train
from tests.data.kaldi_folder import write_folder

LENGTHS = tuple(int(n) for n in np.random.default_rng(2).integers(20, 200, 60))


ARGUMENTS = [
    *("--data.splice", "2", "--data.cmvn", "speaker", "--data.memory-mb", "1"),
    *("--data.test-share", "0.2", "--minibatch", "200", "--model.hidden", "30"),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech") / "data"
    return write_folder(folder, LENGTHS, dimension=40, speakers=10).path


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> dict[str, Any]:
    """The summary of an undisturbed run of two workers."""
    folder = tmp_path_factory.mktemp("straight")
    done = train(folder, corpus, *ARGUMENTS, "--workers", "2")
    assert done.returncode == 0, done.stderr
    return summary_of(folder)


def test_a_small_network_learns_the_classes_of_frames(straight: dict[str, Any]) -> None:
    assert straight["replicas_identical"]
    assert straight["test_error"] < 0.2
    assert straight["samples"] < 2 * sum(LENGTHS)


@pytest.mark.slow
def test_killed_workers_go_on_within_a_window(
    straight: dict[str, Any], tmp_path: Path, corpus: Path
) -> None:
    more = ("--workers", "2", "--max-restarts", "1", "--checkpoint-every", "0")
    done = train(tmp_path / "killed", corpus, *ARGUMENTS, *more, fault="killonce:1:12")
    assert done.returncode == 0, done.stderr
    assert re.search(r"going on from .*: step 1[12], written by 2 workers", done.stdout)
    for key in ("params_sha256", "train_loss", "test_error"):
        assert summary_of(tmp_path / "killed")[key] == straight[key]


@pytest.mark.slow
def test_another_number_of_workers_goes_on(tmp_path: Path, corpus: Path) -> None:
    often = ("--workers", "2", "--checkpoint-every", "0.05")
    done = train(tmp_path, corpus, *ARGUMENTS, *often, fault="SIGTERM:1:12")
    assert done.returncode == 143, done.stderr
    done = train(tmp_path, corpus, *ARGUMENTS, "--workers", "3")
    assert done.returncode == 0, done.stderr
    assert "written by 2 workers" in done.stdout
    assert summary_of(tmp_path)["test_error"] < 0.2


def test_inspect(corpus: Path) -> None:
    done = run("data", "inspect", corpus)
    assert done.returncode == 0, done.stderr
    assert f"60 utterances of 10 speakers, {sum(LENGTHS)} frames of 40 values" in done.stdout
