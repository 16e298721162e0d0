"""The training benchmark from its jobs to its results, with real workers on loopback."""

from pathlib import Path

import pytest

from benchmarks import record, training
from benchmarks.training_contenders import GRIDS
from benchmarks.training_jobs import Job, missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def job(contender: str, seed: int = 0) -> Job:
    return Job("tune", "transformer", contender, GRIDS["transformer"][seed], 0, 6, exact=3)


@pytest.mark.parametrize("contender", ["thinwire hook", "PowerSGD rank 1", "thinwire optimiser"])
def test_cells_share_a_start_of_the_workers_and_are_stored(
    contender: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    todo = [job(contender, 0), job(contender, 1)]
    training.measure(todo, None)
    runs = record.read("training")["runs"]
    assert [run["settings"]["key"] for run in runs.values()] == [one.key for one in todo]
    for run in runs.values():
        assert [steps for steps, _ in run["scores"]] == [6]
        assert run["phases"].keys() == {"start", "steady"}
        assert run["reached"] is None
    assert missing(runs, iter(todo)) == []


def test_a_cell_that_fails_does_not_take_the_others_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    broken = Job("tune", "transformer", "dense", {"lr": -1.0, "momentum": 0.5}, 0, 2, exact=0)
    training.measure([broken, job("dense")], None)
    first, second = record.read("training")["runs"].values()
    assert "ValueError" in first["error"]
    assert "scores" in second
