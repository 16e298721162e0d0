"""S Tables 4 and 5 in our units: the recipe takes their flags, and lines need all they compare."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import results_page, speeds
from thinwire.cli.train import recipe_of


@pytest.mark.parametrize("minibatch", {*speeds.MINIBATCHES, *speeds.GRID_MINIBATCHES})
def test_runs_have_about_as_many_steps_as_said(minibatch: int, tmp_path: Path) -> None:
    words = [*speeds.flags(minibatch), "--out", str(tmp_path)]
    _, recipe = recipe_of("mnist-onebit", words)
    steps = recipe.epochs * speeds.SAMPLES / recipe.minibatch
    assert speeds.STEPS / 2 < steps < 6 * speeds.STEPS
    assert steps / recipe.log_every > 10, "stretches to take a median of"
    assert recipe.exchange.cold_start == 0


def ran(speed: float) -> dict[str, Any]:
    return {"samples_per_second": [speed, 0.9 * speed, 1.1 * speed]}


def test_a_line_needs_both_of_what_it_compares() -> None:
    runs = {
        speeds.double_buffer_key("100mbit", 512, False): ran(1000.0),
        speeds.double_buffer_key("100mbit", 512, True): ran(1250.0),
        speeds.double_buffer_key("100mbit", 1024, False): ran(2000.0),
    }
    _, rows = speeds.double_buffer_rows(runs)
    told = ["1,000 (900 to 1,100)", "1,250 (1,125 to 1,375)", "+25 %"]
    assert rows == [["100 Mbit/s", "512", *told]]
    assert [table.title for table in results_page.speed_tables(runs)] == [
        "Table 4, here: samples/s by minibatch size"
    ]
    both = {speeds.grid_key(2, 1, n): ran(n) for n in speeds.GRID_MINIBATCHES}
    assert [row[0] for row in speeds.grid_rows({**runs, **both})[1]] == ["2 x 1"]
