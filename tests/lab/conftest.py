"""A laboratory where this machine can have one, and a place for results that are only tried."""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import lab, recipes, store
from benchmarks.lab.system import check_machine

NAME = "thinwiretest"


def namespaces() -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in listed.stdout.splitlines() if line.startswith(NAME)]


@pytest.fixture
def alone() -> Iterator[None]:
    """No other process of this test run has a laboratory: they would have one name."""
    with (Path(tempfile.gettempdir()) / f"{NAME}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def network(alone: None) -> Iterator[lab.Network]:
    """Two hosts at 200 Mbit/s."""
    try:
        check_machine()
        lab.up(lab.Network(2, 200_000_000, NAME))
    except lab.LabError as error:
        if os.environ.get("CI") and os.geteuid() == 0 and "needs" not in str(error):
            raise
        pytest.skip(str(error))
    yield lab.find(NAME)
    lab.down(NAME)
    assert namespaces() == []


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results and run folders in a folder of their own."""
    monkeypatch.setattr(store, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(store, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(recipes, "RUNS", tmp_path / "runs")
    (tmp_path / "results").mkdir()
    return tmp_path
