"""Figures and the page of all results, drawn from made-up results."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    figures,
    growth,
    methods,
    minibatch,
    planner_figures,
    record,
    results_page,
    tables,
)
from benchmarks.training_contenders import GRIDS, NEWTON, SEEDS
from benchmarks.training_jobs import speed_key, train_key, tune_key
from benchmarks.training_table import compact
from tests.lab.test_recipe_runs import a_run
from tests.plan.examples import profile
from thinwire.plan import write_profile


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(planner_figures, "PROFILE", tmp_path / "profile.json")
    return tmp_path


def store(name: str, runs: dict[str, Any]) -> None:
    for key, run in runs.items():
        record.enter(name, key, run)


def training() -> dict[str, Any]:
    """Dense needs 60 steps of 4 s, the hook 80 of 1 s."""
    runs: dict[str, Any] = {}
    for name, seconds, steps in (("dense", 4.0, 60), ("thinwire hook", 1.0, 80)):
        taken = [{"seconds": seconds, "bytes": 10**6 // steps, "exact": False}] * 6
        result = {"steps": taken, "scores": [[10, 95.0]], "reached": steps, "wall": 9.0}
        common = {"task": "mnist", "contender": name, "rate": None}
        runs |= {
            tune_key("mnist", name, point): {**compact(result), "settings": common}
            for point in GRIDS["mnist"]
        }
        runs |= {
            train_key("mnist", name, seed): {**compact(result), "settings": common}
            for seed in SEEDS
        }
        wire = {**compact(result), "settings": {**common, "rate": "1gbit"}}
        runs[speed_key("mnist", name, "1gbit", 0)] = wire
    return runs


def everything(folder: Path) -> None:
    exchange = {
        "settings": {"hosts": 4, "rate": "1gbit", "values": "8M", "shape": [2048, 4096]},
        "load": [0, 0],
        "results": {
            "dense": {"seconds": [4.0, 5.0], "payload_bytes": 1000},
            "PowerSGD rank 1": {"seconds": [1.0, 1.0], "payload_bytes": 5},
            "thinwire sign": {"seconds": [0.2, 0.3], "payload_bytes": 40},
        },
    }
    store("exchange", {"4 hosts, 1gbit, 8M": exchange})
    store("training", training())
    store("methods", {methods.key(label, 0): a_run(0.02) for label in methods.METHODS})
    seconds = {"gradient": [2.0, 1.0, 3.0], "line search": [1.0, 1.0, 1.0]}
    scaling = {"settings": {"hosts": 2, "rate": "1gbit"}, "seconds": seconds}
    store("scaling", {"2 hosts, 1gbit": scaling})
    reach = {"4": [3, 9.0], "2": [5, 12.0]}
    store("minibatch", {key: {"reach": reach} for key in minibatch.specs()})
    store("tables", {row.key(seed): a_run(0.02) for row in tables.TABLE_2 for seed in SEEDS})
    write_profile(profile(), folder / "profile.json")


STORED = set(figures.FIGURES) - {"exchange_sizes", "growth", "frontier"}  # need more than this


@pytest.mark.parametrize("name", sorted(STORED))
def test_figures(name: str, results: Path, tmp_path: Path) -> None:
    everything(results)
    drawn = figures.draw(name, tmp_path / "out")
    svg = (tmp_path / "out" / f"{name}.svg").read_text(encoding="utf-8")
    assert svg == f"{drawn}\n"
    assert svg.startswith("<svg")
    assert (tmp_path / "out" / f"{name}.png").stat().st_size > 1000


def test_the_page(results: Path) -> None:
    everything(results)
    page = results_page.html(dict.fromkeys(STORED, "<svg></svg>"))
    assert page.count("<svg") == len(STORED)
    assert page.index("The rules") < page.index("<svg")
    assert not re.search(r'(src|href)="(?!#)', page)
    for words in ("lr 0.03, momentum 0.9", "damping 0.03, batch 4096", *NEWTON):
        assert words in page
    assert "Not measured yet" in page
    assert "make bench-growth" in page


def test_the_best_is_marked_whoever_it_is(results: Path) -> None:
    everything(results)
    (table,) = results_page.exchange_tables(record.read("exchange")["runs"])
    assert {(table.rows[row][0], column) for row, column in table.best} == {
        ("thinwire sign", 1),
        ("PowerSGD rank 1", 3),
    }
    (table,) = results_page.training_tables(record.read("training")["runs"])
    assert {table.rows[row][0] for row, column in table.best if column == 4} == {"thinwire hook"}
    assert table.rows[0][4] == "240 (240 to 240)"


def test_without_results_it_says_what_makes_them(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(figures.draw_all(tmp_path / "out")) == {"optimum"}  # from the paper's numbers alone
    said = capsys.readouterr().out
    for _, _, target in figures.FIGURES.values():
        assert target == "bench-profile" or f"make {target}" in said
    page = results_page.html({})
    assert "make bench-training" in page
    assert "Speeds (S Tables 4 and 5)" in page


def test_every_command_that_the_page_names_is_a_target_of_make() -> None:
    text = (Path(figures.__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    targets = {section.target for section in results_page.sections()}
    targets |= {target for _, _, target in figures.FIGURES.values()}
    assert all(re.search(rf"^{target}:.*## ", text, re.MULTILINE) for target in targets)


def test_the_planner_takes_over_where_workers_end() -> None:
    rows = growth.planned(2**23)
    assert rows.keys() == {str(world) for world in (*growth.REAL, *growth.SIMULATED)}
    two, many = rows["2"]["bytes"], rows["1024"]["bytes"]
    assert two["sign"] < many["sign"] < 2.2 * two["sign"]  # O(1): (K - 1) / K, and headers
    run = {"real": {}, "planned": rows, "simulated": {}}
    _, planned, _ = growth.tables(run)
    assert len(planned[2]) == len(rows)


def test_stored_results_still_draw() -> None:
    """What is kept in the repository fits the code that reads it."""
    folder = Path(figures.__file__).parent / "results"
    for name, (file, draw, _) in figures.FIGURES.items():
        if (folder / f"{file}.json").exists():
            runs = json.loads((folder / f"{file}.json").read_text(encoding="utf-8"))["runs"]
            assert draw(runs) is not None or name.startswith("exchange"), name
