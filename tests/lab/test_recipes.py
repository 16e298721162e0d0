"""Runs of recipes for tables and figures: which there are, what is kept, what tables say."""

import doctest
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import recipes, store
from benchmarks.hessian_free import methods
from benchmarks.recipes import Recipe
from benchmarks.runner import Benchmark, missing, run
from benchmarks.store import Result
from benchmarks.training import paper_tables, speeds
from tests.report.builder import write_run
from thinwire.cli.train import recipe_of


class Trainer:
    """``thinwire train`` without training: writes a made-up run into --out."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.fail = False

    def __call__(self, command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        if "train" not in command:  # platform asks other programs
            return subprocess.CompletedProcess(command, 1, "", "")
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
    monkeypatch.setattr(store, "machine", dict)  # asks other programs
    return made


FIRST = Recipe("t", "first", "mnist-onebit", ("--epochs", "1"))
SECOND = Recipe("t", "second", "mnist-onebit", ("--model.start", "{model}"), 1, FIRST)


def benchmark(*some: Recipe) -> Benchmark:
    cells = [recipe.cell(curve=recipe is FIRST) for recipe in some]
    return Benchmark("t", "benchmarks.t", lambda _: cells, lambda _: [])


def test_what_of_a_run_is_kept(here: Path, trainer: Trainer) -> None:
    run(benchmark(FIRST, SECOND))
    assert len(trainer.calls) == 2
    first, second = store.read("t").values()
    assert first.measures["test_error"] == 0.0203
    assert first.command == "thinwire train mnist-onebit --epochs 1 --seed 0"
    assert [point["step"] for point in first.measures["curve"]] == [10, 20]
    percents = {price["train_error_percent"] for price in first.measures["reached"]}
    assert percents == {5, 4, 3, 2, 1}
    assert second.measures.keys() == set(recipes.TOTALS)
    run(benchmark(FIRST, SECOND))
    assert len(trainer.calls) == 2
    changed = Recipe("t", "first", "mnist-onebit", ("--epochs", "2"))
    (cell,) = missing([changed.cell()], store.read("t"))
    assert cell.key == "first"
    assert changed.folder != FIRST.folder


def test_flags_of_the_command_line_are_what_is_trained(here: Path, trainer: Trainer) -> None:
    run(benchmark(FIRST), given={"flags": ["--epochs", "9"]})
    assert trainer.calls[0][:3] == ["mnist-onebit", "--epochs", "9"]
    assert store.read("t")["first"].settings["flags"] == ["--epochs", "9"]


def test_a_model_that_is_gone_is_trained_again(here: Path, trainer: Trainer) -> None:
    run(benchmark(FIRST))
    (FIRST.folder / "model.safetensors").unlink()
    run(benchmark(FIRST, SECOND))
    assert [call[call.index("--seed") + 1] for call in trainer.calls] == ["0", "0", "1"]
    assert trainer.calls[-1][2] == str(FIRST.folder)


def test_failures_are_kept_with_the_last_words(here: Path, trainer: Trainer) -> None:
    trainer.fail = True
    run(benchmark(FIRST))
    assert store.read("t")["first"].error == "model.rank: unknown"
    trainer.fail = False
    run(benchmark(FIRST))
    assert store.read("t")["first"].error is None


def test_every_cell_of_the_tables_has_its_own_key_and_comes_after_what_it_needs() -> None:
    keys = [cell.key for cell in paper_tables.cells({})]
    rows = (*paper_tables.TABLE_2, *paper_tables.TABLE_3)
    assert len(set(keys)) == len(keys) == len(paper_tables.SEEDS) * len(rows)
    starts = 0
    for row in rows:
        for seed in paper_tables.SEEDS:
            recipe = row.recipe(seed)
            assert "{" not in "".join(recipe.words)
            if recipe.start is not None:
                assert keys.index(recipe.start.key) < keys.index(recipe.key)
                assert recipe.start.seed == seed
                starts += 1
    assert starts == 9


@pytest.mark.parametrize(
    "row", [*paper_tables.TABLE_2, *paper_tables.TABLE_3], ids=lambda row: row.key(0)
)
def test_the_recipe_of_the_tables_takes_their_flags(row: paper_tables.Row) -> None:
    words = row.recipe(0).words
    _, recipe = recipe_of(words[0], words[1:])
    assert recipe.exchange.double_buffer == ("double buffering" in row.label)
    assert recipe.exchange.error_feedback != ("no error feedback" in row.label)
    assert (recipe.model.rank is not None) == (row.setup == "low-rank")


@pytest.mark.parametrize("label", methods.METHODS)
def test_the_recipes_of_the_methods_take_their_flags(label: str) -> None:
    words = methods.recipe(label, 1).words
    _, recipe = recipe_of(words[0], words[1:])
    assert (recipe.workers, recipe.seed) == (4, 1)


@pytest.mark.parametrize("minibatch", {*speeds.MINIBATCHES, *speeds.GRID_MINIBATCHES})
def test_runs_have_about_as_many_steps_as_said(minibatch: int, tmp_path: Path) -> None:
    words = [*speeds.flags(minibatch), "--out", str(tmp_path)]
    _, recipe = recipe_of("mnist-onebit", words)
    steps = recipe.epochs * speeds.SAMPLES / recipe.minibatch
    assert speeds.STEPS / 2 < steps < 6 * speeds.STEPS
    assert steps / recipe.log_every > 10, "stretches to take a median of"
    assert recipe.exchange.start_samples == 0


def a_run(key: str, test_error: float, steps: int = 5) -> Result:
    price = {"train_error_percent": 2, "iterations": steps, "passes": 1.5, "communications": 7}
    price |= {"scalar_communications": 3, "mb_sent_per_worker": 12.3, "seconds": 1.25}
    point = {"step": 1, "epoch": 1.0, "communications": 2, "bytes_sent": 5e6, "seconds": 2.0}
    scores = {"train_loss": 0.3, "train_error": 0.1, "test_loss": 0.3, "test_error": test_error}
    later = {**point, "step": 2, **scores, "test_error": test_error + 0.01}
    curve = [{**point, **scores}, later]
    measures = {"bytes_sent_per_worker": 3e6, **scores, "curve": curve, "reached": [price]}
    return Result(key, measures=measures, date="2026-11-21")


def test_lines_of_the_tables_are_means_with_spread() -> None:
    row = paper_tables.TABLE_2[0]
    keys = [row.key(seed) for seed in paper_tables.SEEDS]
    runs = {key: a_run(key, e) for key, e in zip(keys, (0.02, 0.03, 0.01), strict=True)}
    line, unrun = paper_tables.lines(runs, paper_tables.TABLE_2[:2])
    assert line[:3] == ["sigmoid", "baseline", "2.00 (1.00 to 3.00) %"]
    assert line[4:] == ["3", row.paper]
    assert unrun[2] == "not run yet"
    runs[keys[1]] = Result(keys[1], error="no such flag")
    assert paper_tables.lines(runs, [row])[0][2] == "1.50 (1.00 to 2.00) %, 2 of 3 seeds"
    failed = {keys[1]: runs[keys[1]]}
    assert paper_tables.lines(failed, [row])[0][2] == "not run: no such flag"


def test_what_methods_took_stands_seed_by_seed() -> None:
    label, other = list(methods.METHODS)[:2]
    keys = [methods.key(label, 0), methods.key(label, 2), methods.key(other, 0)]
    runs = {keys[0]: a_run(keys[0], 0.02, 5), keys[1]: a_run(keys[1], 0.03, 6)}
    (table,) = methods.tables(runs)  # only 2 % was reached
    assert table.title == "To 2 % training error"
    (line,) = table.rows
    told = ["5 / 6", "1.5 / 1.5", "7 / 7", "3 / 3", "12 / 12", "1.2 / 1.2", "2.00 / 3.00 %"]
    assert line == [label, *told]
    (table,) = methods.tables({**runs, keys[2]: a_run(keys[2], 0.02, 5)})
    assert (1, 1) in table.best  # 5 iterations, against a median of 5.5
    assert (0, 1) not in table.best


def test_the_page_of_the_tables_says_what_was_typed(here: Path) -> None:
    text = paper_tables.page({})
    assert "thinwire train mnist-onebit --epochs 4" in text
    assert "| Table 4, 4 x 2, no DB | 2,048 |" in text
    assert "{" not in text


def test_the_page_of_the_tables_that_is_kept_is_what_the_results_say() -> None:
    page = Path(store.__file__).parents[1] / "docs" / "results.md"
    assert page.read_text(encoding="utf-8") == paper_tables.page(store.read(paper_tables.NAME))


def ran(key: str, speed: float) -> dict[str, Result]:
    return {key: Result(key, measures={"samples_per_second": [speed, 0.9 * speed, 1.1 * speed]})}


def test_a_line_of_speeds_needs_both_of_what_it_compares() -> None:
    key = speeds.double_buffer_key
    runs = {
        **ran(key("100mbit", 512, False), 1000.0),
        **ran(key("100mbit", 512, True), 1250.0),
        **ran(key("100mbit", 1024, False), 2000.0),
    }
    told = ["1,000 (900 to 1,100)", "1,250 (1,125 to 1,375)", "+25 %"]
    assert speeds.double_buffer_table(runs).rows == [["100 Mbit/s", "512", *told]]
    titles = [table.title for table in speeds.tables(runs)]
    assert titles == ["Table 4, here: samples/s by minibatch size"]
    for n in speeds.GRID_MINIBATCHES:
        runs |= ran(speeds.grid_key(2, 1, n), n)
    assert [row[0] for row in speeds.grid_table(runs).rows] == ["2 x 1"]


def test_doctests() -> None:
    assert doctest.testmod(recipes).failed == 0
