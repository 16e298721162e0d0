"""One job at a time in a run folder; see tests/cli/test_safe_start.py for whole jobs."""

import os
import socket
from pathlib import Path

import pytest

from thinwire.train.checkpoint import remove_leftovers
from thinwire.train.run_lock import locked


def test_a_second_job_is_told_which_process_is_at_work(tmp_path: Path) -> None:
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    told = pytest.raises(ValueError, match=f"{holder} trains into it")
    with locked(tmp_path), told, locked(tmp_path):
        raise AssertionError("two jobs at once")
    with locked(tmp_path):
        pass  # it has been let go of


def test_a_lock_is_not_written_through_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / ".lock").symlink_to(precious)
    with pytest.raises(OSError, match="lock"), locked(tmp_path):
        raise AssertionError("followed")
    assert precious.read_text() == "precious"


def test_what_interrupted_saves_leave_is_removed(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    for name in (
        "step-00000004",
        ".step-00000004.old",
        ".step-00000009.part",
        ".step-00000007.old",
    ):
        (checkpoints / name).mkdir(parents=True)
        (checkpoints / name / "manifest.json").write_text(name)
    remove_leftovers(tmp_path)
    left = {path.name: (path / "manifest.json").read_text() for path in checkpoints.iterdir()}
    # the seventh step's had been moved aside, and nothing had taken its place yet
    assert left == {"step-00000004": "step-00000004", "step-00000007": ".step-00000007.old"}
