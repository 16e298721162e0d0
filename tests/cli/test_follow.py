"""``thinwire follow``: what a run tells stands in TensorBoard and Weights & Biases."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from thinwire.cli import main
from thinwire.report import EventLog


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    with EventLog(folder / "events.jsonl") as log:
        log.write("start", schema=1, name="a run", recipe={"optimizer": {"lr": 0.5}})
        for step in (20, 40):
            log.write("step", step=step, epoch=step / 40, loss=1 / step, bytes_sent=10 * step)
        log.write("epoch", step=40, epoch=1.0, test_loss=0.25, exact=True)
        log.write("end", steps=40, seconds=3.5)
    return folder


def test_tensorboard_has_every_figure(run_folder: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = tmp_path / "board"
    assert main(["follow", str(run_folder), "--tensorboard", str(board)]) == 0
    found = accumulator.EventAccumulator(str(board)).Reload()
    assert set(found.Tags()["scalars"]) == {
        *("step/loss", "step/bytes_sent", "epoch/test_loss", "end/steps", "end/seconds"),
    }
    losses = [(event.step, event.value) for event in found.Scalars("step/loss")]
    assert losses == [(20, pytest.approx(0.05)), (40, pytest.approx(0.025))]
    assert [(e.step, e.value) for e in found.Scalars("epoch/test_loss")] == [(40, 0.25)]


@pytest.mark.slow
def test_weights_and_biases_offline(run_folder: Path) -> None:
    pytest.importorskip("wandb")
    command = [sys.executable, "-m", "thinwire", "follow", str(run_folder), "--wandb", "project"]
    done = subprocess.run(
        command,
        env={**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (kept,) = (run_folder / "wandb").glob("offline-run-*")
    (record,) = kept.glob("*.wandb")
    content = record.read_bytes()
    assert all(name in content for name in (b"epoch/test_loss", b"step/bytes_sent"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "expected --tensorboard DIR or --wandb PROJECT"),
        (["--tensorbord", "x"], "did you mean '--tensorboard'"),
    ],
)
def test_mistakes_are_told(
    run_folder: Path, capsys: pytest.CaptureFixture[str], args: list[str], said: str
) -> None:
    assert main(["follow", str(run_folder), *args]) == 2
    assert said in capsys.readouterr().err


def test_nothing_is_made_for_what_is_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = tmp_path / "board"
    (tmp_path / "run").mkdir()
    assert main(["follow", str(tmp_path / "run"), "--tensorboard", str(board)]) == 2
    assert "events.jsonl" in capsys.readouterr().err
    (tmp_path / "run" / "events.jsonl").write_text(json.dumps({"no": "event"}) + "\n")
    assert main(["follow", str(tmp_path / "run"), "--tensorboard", str(board)]) == 2
    assert not board.exists()
