"""Runs of recipes for tables and figures: which there are, what is kept, what tables say."""

import doctest
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import methods, recipe_runs, record, results_page, tables
from benchmarks.recipe_runs import Cell, folder_of, missing, run_all
from tests.report.builder import write_run
from thinwire.cli.train import recipe_of


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(recipe_runs, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(record, "machine", dict)  # asks other programs
    return tmp_path


class Trainer:
    """``thinwire train`` without training: writes a made-up run into --out."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.fail = False

    def __call__(self, command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        self.calls.append(command[command.index("train") + 1 :])
        if self.fail:
            return subprocess.CompletedProcess(command, 2, "", "usage\nmodel.rank: unknown\n")
        folder = write_run(Path(command[command.index("--out") + 1]))
        (folder / "model.safetensors").touch()
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    made = Trainer()
    monkeypatch.setattr(subprocess, "run", made)
    return made


FIRST = Cell("first", "mnist-onebit", ("--epochs", "1"), 0)
SECOND = Cell("second", "mnist-onebit", ("--model.start", "{model:first}"), 1)
CELLS = {cell.key: cell for cell in (FIRST, SECOND)}


def test_what_is_stored_is_not_run_again(here: Path, trainer: Trainer) -> None:
    runs = run_all("t", CELLS, 1.0)
    assert len(trainer.calls) == 2
    assert list(runs) == ["first", "second"]
    assert runs["first"]["test_error"] == 0.0203
    assert runs["first"]["command"] == "thinwire train mnist-onebit --epochs 1 --seed 0"
    assert [point["step"] for point in runs["first"]["curve"]] == [10, 20]
    assert {price["train_error_percent"] for price in runs["first"]["reached"]} == {5, 4, 3, 2, 1}
    run_all("t", CELLS, 1.0)
    assert len(trainer.calls) == 2
    changed = {**CELLS, "first": Cell("first", "mnist-onebit", ("--epochs", "2"), 0)}
    assert missing("t", changed) == [changed["first"]]
    assert folder_of("t", changed["first"]) != folder_of("t", FIRST)


def test_a_model_that_is_gone_is_trained_again(here: Path, trainer: Trainer) -> None:
    run_all("t", {"first": FIRST}, 1.0)
    start = folder_of("t", FIRST)
    (start / "model.safetensors").unlink()
    run_all("t", CELLS, 1.0)
    assert [call[call.index("--seed") + 1] for call in trainer.calls] == ["0", "0", "1"]
    assert trainer.calls[-1][2] == str(start)


def test_failures_are_kept_and_tried_again(here: Path, trainer: Trainer) -> None:
    trainer.fail = True
    assert run_all("t", {"first": FIRST}, 1.0)["first"]["error"] == "model.rank: unknown"
    trainer.fail = False
    assert "error" not in run_all("t", {"first": FIRST}, 1.0)["first"]


def test_every_cell_of_the_tables_has_its_own_key_and_comes_after_what_it_needs() -> None:
    cells = tables.cells()
    assert len(cells) == len(tables.SEEDS) * len((*tables.TABLE_2, *tables.TABLE_3))
    keys = list(cells)
    for place, cell in enumerate(cells.values()):
        assert all(keys.index(key) < place for key in cell.starts_from)
        assert "SEED" not in "".join(cell.words)


@pytest.mark.parametrize("row", [*tables.TABLE_2, *tables.TABLE_3], ids=lambda row: row.key(0))
def test_the_recipe_of_the_tables_takes_their_flags(row: tables.Row) -> None:
    cell = row.cells()[0]
    _, recipe = recipe_of(cell.recipe, cell.words[1:])
    assert recipe.exchange.double_buffer == ("double buffering" in row.label)
    assert recipe.exchange.error_feedback != ("no error feedback" in row.label)
    assert (recipe.model.rank is not None) == (row.setup == "low-rank")


@pytest.mark.parametrize("label", methods.METHODS)
def test_the_recipes_of_the_methods_take_their_flags(label: str) -> None:
    cell = methods.cells([1])[methods.key(label, 1)]
    _, recipe = recipe_of(cell.recipe, cell.words[1:])
    assert (recipe.workers, recipe.seed) == (4, 1)


def a_run(test_error: float, steps: int = 5) -> dict[str, Any]:
    price = {"train_error_percent": 2, "iterations": steps, "passes": 1.5, "communications": 7}
    price |= {"scalar_communications": 3, "mb_sent_per_worker": 12.3, "seconds": 1.25}
    point = {"step": 1, "epoch": 1.0, "communications": 2, "bytes_sent": 5e6, "seconds": 2.0}
    scores = {"train_loss": 0.3, "train_error": 0.1, "test_loss": 0.3, "test_error": test_error}
    common = {"date": "2026-11-21", "words": ["x"], "bytes_sent_per_worker": 3e6, **scores}
    later = {**point, "step": 2, **scores, "test_error": test_error + 0.01}
    return {**common, "curve": [{**point, **scores}, later], "reached": [price]}


def test_lines_of_the_tables_are_means_with_spread() -> None:
    row = tables.TABLE_2[0]
    runs = {
        row.key(seed): a_run(e) for seed, e in zip(tables.SEEDS, (0.02, 0.03, 0.01), strict=True)
    }
    line, unrun = tables.lines(runs, tables.TABLE_2[:2])
    assert line[:3] == ["sigmoid", "baseline", "2.00 (1.00 to 3.00) %"]
    assert line[4:] == ["3", row.paper]
    assert unrun[2] == "not run yet"
    runs[row.key(1)] = {"error": "no such flag"}
    assert tables.lines(runs, [row])[0][2] == "1.50 (1.00 to 2.00) %, 2 of 3 seeds"
    failed = {row.key(1): {"error": "no such flag"}}
    assert tables.lines(failed, [row])[0][2] == "not run: no such flag"


def test_what_methods_took_stands_seed_by_seed() -> None:
    label = next(iter(methods.METHODS))
    runs = {methods.key(label, 0): a_run(0.02, 5), methods.key(label, 2): a_run(0.03, 6)}
    (line,) = methods.lines(runs, 2)
    assert line == [
        label,
        "5 / 6",
        "1.5 / 1.5",
        "7 / 7",
        "3 / 3",
        "12 / 12",
        "1.2 / 1.2",
        "2.00 / 3.00 %",
    ]
    assert methods.lines(runs, 1) == []
    other = list(methods.METHODS)[1]
    runs[methods.key(other, 0)] = a_run(0.02, 4)
    assert methods.medians(runs, 2)[0] == [5.5, 4]  # iterations
    (table,) = results_page.method_tables(runs)
    assert (1, 1) in table.best


def test_the_page_of_the_tables_says_what_was_typed() -> None:
    text = tables.page({}, "torch 2.13")
    assert "thinwire train mnist-onebit --epochs 4" in text
    assert "| Table 4, 4 x 2, no DB | 2,048 |" in text
    assert "{" not in text


def test_doctests() -> None:
    for module in (recipe_runs, record, results_page):
        assert doctest.testmod(module).failed == 0
