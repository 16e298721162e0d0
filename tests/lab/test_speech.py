"""The benchmark on speech: every line can be typed, and its page says what is missing."""

import pytest

from benchmarks.speech.__main__ import cells, page
from benchmarks.speech.corpora import MADE
from benchmarks.speech.rows import ROWS, SEEDS, Row
from thinwire.cli.train import recipe_of


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key(0))
def test_lines_are_what_train_takes(row: Row) -> None:
    flags = [flag.replace("{model}", "elsewhere") for flag in row.run(1).flags]
    _, recipe = recipe_of(row.recipe, flags)
    assert row.corpus in MADE
    assert str(recipe.data.path).endswith(f"{row.corpus.lower()}/train")
    assert recipe.data.test is not None


def test_every_run_has_a_name_of_its_own() -> None:
    assert len({cell.key for cell in cells({})}) == len(ROWS) * len(SEEDS)
    assert len({row.run(seed).folder for row in ROWS for seed in SEEDS}) == len(ROWS) * len(SEEDS)


def test_the_page_says_what_is_missing() -> None:
    assert page({}).count("not run yet") == len(ROWS)
