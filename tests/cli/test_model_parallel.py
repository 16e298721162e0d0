"""``thinwire train --model-parallel`` as a user runs it."""

import json
from pathlib import Path

import pytest
import safetensors.torch

from tests.cli.test_train import summary_of, train
from thinwire.cli import main


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--workers", "3", "--model-parallel", "2"], "3 workers do not divide into models of 2"),
        (["--model-parallel", "2"], "1 worker does not divide into models of 2"),
        (
            ["--workers", "4", "--model-parallel", "4", "--model.hidden", "8", "8", "150"],
            "layer 3: 150 outputs do not divide by 4",
        ),
        (["--workers", "2", "--model-parallel", "0"], "model_parallel: expected >= 1, got 0"),
        (
            ["--workers", "4", "--model-parallel", "2", "--exchange.double-buffer", "True"],
            "exchange.double_buffer: expected False with model_parallel, got True",
        ),
        (
            ["--workers", "4", "--model-parallel", "2", "--model.pretrain", "600"],
            "model.pretrain: expected 0 with model_parallel, got 600",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_work_is_refused_in_one_line(
    idx_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    expected: str,
) -> None:
    arguments = ["--data", str(idx_folder), "--out", str(tmp_path / "run")]
    assert main(["train", "mnist-onebit", *arguments, *flags]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert "Traceback" not in said


def test_hessian_free_does_not_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "mnist-hf-cg", "--workers", "2", "--model-parallel", "2"]) == 2
    said = capsys.readouterr().err
    assert "model_parallel: algorithm hessian-free does not use it, got 2" in said


GRID = ("--workers", "4", "--model-parallel", "2")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_from_start_to_report(idx_folder: Path, tmp_path: Path) -> None:
    done = train(tmp_path / "run", idx_folder, *GRID)
    assert done.returncode == 0, done.stderr
    summary = summary_of(tmp_path / "run")
    assert (summary["workers"], summary["replicas_identical"]) == (4, True)
    stages = {part["stage"]: part["bytes"] for part in summary["traffic"]}
    assert min(stages["activations"], stages["whole model"], stages["model agreement"]) > 0
    tensors = safetensors.torch.load_file(tmp_path / "run" / "model.safetensors")
    assert sum(tensor.numel() for tensor in tensors.values()) == summary["params"]
    again = train(tmp_path / "again", idx_folder, *GRID)
    assert again.returncode == 0, again.stderr
    assert summary_of(tmp_path / "again")["params_sha256"] == summary["params_sha256"]
    start = json.loads((tmp_path / "run" / "events.jsonl").read_text().splitlines()[0])
    assert start["recipe"]["model_parallel"] == 2


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hanging_worker_ends_the_job(idx_folder: Path, tmp_path: Path) -> None:
    """The collectives inside a row have the run's time-out too."""
    done = train(tmp_path, idx_folder, *GRID, "--timeout", "10", fault="hang:3:6")
    assert done.returncode == 1
    assert "lost contact with worker" in done.stderr.strip().splitlines()[-1]
