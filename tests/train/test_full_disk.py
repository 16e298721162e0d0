"""A disk that is full: whoever writes says in one line which file that was."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import fill
from tests.train.test_resume import recipe_of, run_once
from thinwire.files import FileError, write_atomically
from thinwire.report import EventLog, load_run, write_page
from thinwire.train import Plan, prepare
from thinwire.train.checkpoint import checkpoints_in, open_checkpoint, write_manifest, write_tensors
from thinwire.train.folder import NORMALISATION, start_folder
from thinwire.train.run_lock import locked
from thinwire.train.summary import write_summary


def log_an_event(folder: Path) -> None:
    with EventLog(folder / "events.jsonl") as log:
        log.write("step", text="x" * 1_000)  # closing tries once more to write it


def lock(folder: Path) -> None:
    with locked(folder):
        pass


WRITERS: dict[str, Callable[[Path], Any]] = {
    "events.jsonl": log_an_event,
    ".lock": lock,
    "worker-1.safetensors": lambda folder: write_tensors(
        folder / "worker-1.safetensors", {"a": torch.zeros(10_000)}, {}
    ),
    "manifest.json": lambda folder: write_manifest(folder, {"text": "x" * 10_000}, {}),
    "model.safetensors": lambda folder: write_summary(folder, {}, {"a": torch.zeros(10_000)}),
    "summary.json": lambda folder: write_summary(folder, {"text": "x" * 10_000}, {}),
    "config.toml": lambda folder: write_atomically(folder / "config.toml", "x" * 10_000),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_cannot_be_written_is_named(name: str, small_disk: Path) -> None:
    folder = small_disk / "run"
    folder.mkdir()
    if name == "summary.json":  # for which the model comes first
        write_summary(folder, {}, {})
    left = fill(small_disk, leave=4096 if name == "summary.json" else 0)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileError, match="No space left on device") as told:
        WRITERS[name](folder)
    assert str(told.value).startswith(f"{folder / name}: ")
    assert "\n" not in str(told.value)
    assert {path: path.read_bytes() for path in before} == before, "what was there stays"
    assert not list(folder.glob(".*.part"))
    left.unlink()
    WRITERS[name](folder)


@pytest.mark.parametrize("name", ["config.toml", NORMALISATION])
def test_the_files_a_run_begins_with_are_named(
    name: str, idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the disk were full for one of them."""
    from thinwire.train import folder

    def write(path: Path, content: Any) -> None:
        if path.name == name:
            path = tmp_path / "nowhere" / name
        write_atomically(path, content)

    monkeypatch.setattr(folder, "write_atomically", write)
    job = prepare("tiny", recipe_of(idx_folder, tmp_path / "run"), lambda _: None)
    with pytest.raises(FileError, match=f"{name}: cannot be written: No such file"):
        start_folder(job, Plan(anew=True), 0, 1)


def test_a_checkpoint_that_finds_no_room_leaves_those_before_it_and_nothing_else(
    idx_folder: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for events, none for a checkpoint."""
    folder, often = small_disk / "run", {"checkpoint_every": 0.0}
    run_once(0, 1, idx_folder, folder, 3, often)
    names = [path.name for path in checkpoints_in(folder)]
    left = fill(small_disk, leave=1 << 16)
    # It refuses to begin with so little; here the disk fills while it trains.
    preparing = import_module("thinwire.train.prepare")
    monkeypatch.setattr(preparing, "writable_folder", lambda folder: folder)
    summary, _, said = run_once(0, 1, idx_folder, folder, 2, often)
    assert summary is None
    assert "checkpoint of step 5 not written: worker 0: checkpoints/.step-00000005.part/" in said
    assert "No space left on device" in said
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == sorted(names)
    for path in checkpoints_in(folder):
        open_checkpoint(path)
    left.unlink()
    summary, _, said = run_once(0, 1, idx_folder, folder, None, {})
    assert summary is not None
    assert "step 4, written by 1 worker" in said


def test_a_report_without_room_keeps_the_former_page(idx_folder: Path, small_disk: Path) -> None:
    folder = small_disk / "run"
    run_once(0, 1, idx_folder, folder, None, {})
    page = small_disk / "report.html"
    page.write_text("former")
    fill(small_disk)
    with pytest.raises(FileError, match=f"{page}: cannot be written: No space left"):
        write_page([load_run(folder)], page)
    assert page.read_text() == "former"
