"""Figures and the page of all results, drawn from made-up results and from those that are kept."""

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page, store
from benchmarks.exchange import growth, rows
from benchmarks.hessian_free import methods, minibatch
from benchmarks.store import Result
from benchmarks.training import paper_tables
from benchmarks.training import rows as training_rows
from benchmarks.training.cells import RATES, speed_key, train_key, tune_key
from benchmarks.training.contenders import GRIDS, NEWTON, SEEDS
from benchmarks.training.measure import compact
from tests.lab.test_recipes import a_run
from tests.plan.examples import profile
from thinwire.plan import write_profile

ROOT = Path(store.__file__).parents[1]
FIGURES = {name: section for section in page.SECTIONS for name in section.figures}


def keep(name: str, key: str, measures: dict[str, Any], **settings: Any) -> None:
    store.append(name, Result(key, settings, measures=measures))


def training() -> None:
    """Of the perceptron, dense needs 60 steps of 4 s, the hook 80 of 1 s.

    The transformer goes on to the end, which the race shows.
    """
    for name, seconds, steps in (("dense", 4.0, 60), ("thinwire hook", 1.0, 80)):
        sent = 10**6 // steps
        one = {"seconds": seconds, "bytes": sent, "received": sent, "starting": False}
        told = compact({"steps": [one] * 6, "scores": [[10, 95.0]], "reached": steps, "every": 1})
        for point in GRIDS["mnist"]:
            keep("training", tune_key("mnist", name, point), told, rate=None)
        for seed in SEEDS:
            keep("training", train_key("mnist", name, seed), told, rate=None, point={})
        keep("training", speed_key("mnist", name, RATES[1], 0), told, rate=RATES[1])
    falling = {"scores": [[10, 2.5], [20, 2.1]], "reached": None, "every": 1}
    told = compact({"steps": [one] * 6, **falling})
    keep("training", train_key("transformer", "dense", 0), told, rate=None, point={})
    keep("training", speed_key("transformer", "dense", RATES[1], 0), told, rate=RATES[1])


def everything(folder: Path) -> None:
    exchange = {
        "dense": {"seconds": [4.0, 5.0], "payload_bytes": 1000},
        "PowerSGD rank 1": {"seconds": [1.0, 1.0], "payload_bytes": 5},
        "thinwire sign": {"seconds": [0.2, 0.3], "payload_bytes": 40},
    }
    keep("exchange", "4 hosts, 1gbit, 8M", exchange, hosts=4, rate="1gbit", values="8M")
    training()
    for label in methods.METHODS:
        store.append("methods", a_run(methods.key(label, 0), 0.02))
    seconds = {"gradient": [2.0, 1.0, 3.0], "line search": [1.0, 1.0, 1.0]}
    keep("scaling", "2 hosts, 1gbit", seconds, hosts=2, rate="1gbit")
    for cell in minibatch.cells({}):
        keep("minibatch", cell.key, {"reach": {"4": [3, 9.0], "2": [5, 12.0]}})
    for row in paper_tables.TABLE_2:
        for seed in SEEDS:
            store.append("tables", a_run(row.key(seed), 0.02))
    write_profile(profile(), folder / "profile.json")


MADE_UP = set(FIGURES) - {"exchange_sizes", "growth", "frontier"}  # those need more than this


@pytest.fixture
def results(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "machine", lambda: {"torch": "2"})
    everything(store.FOLDER)
    return store.FOLDER


def test_figures(results: Path, tmp_path: Path) -> None:
    drawn: dict[str, str] = {}
    for section in page.SECTIONS:
        drawn |= page.draw(section, tmp_path)
    assert drawn.keys() == MADE_UP
    for name in drawn:
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_drawing_again_changes_nothing(results: Path, tmp_path: Path) -> None:
    found = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        page.draw(FIGURES["training"], folder)
        found.append((folder / "training.png").read_bytes())
    assert found[0] == found[1]
    assert not re.search(rb"tEXt|tIME", found[0]), "neither date nor version is in the file"


def test_the_page(results: Path) -> None:
    text = page.html(dict.fromkeys(MADE_UP, "What it shows."))
    assert text.count("<img") == len(MADE_UP)
    assert text.index("The rules") < text.index("<img")
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert set(links) == {f"{name}.png" for name in MADE_UP}, "nothing from elsewhere"
    assert text.count('alt="What it shows."') == len(MADE_UP)
    for words in ("lr 0.03, momentum 0.9", "damping 0.03, batch 4096", *NEWTON):
        assert words in text
    assert "Not measured yet" in text
    assert "make bench-growth" in text


def test_the_best_is_marked_whoever_it_is(results: Path) -> None:
    (table,) = rows.page_tables(store.read("exchange"))
    assert {(table.rows[row][0], column) for row, column in table.best} == {
        ("thinwire sign", 1),
        ("PowerSGD rank 1", 3),
    }
    table, _ = training_rows.tables(store.read("training"))
    assert {table.rows[row][0] for row, column in table.best if column == 4} == {"thinwire hook"}
    assert table.rows[0][4] == "240 (240 to 240)"


def test_without_results_it_says_what_makes_them(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: dict[str, str] = {}
    for section in page.SECTIONS:
        drawn |= page.draw(section, tmp_path)
    assert set(drawn) == {"optimum"}  # from the paper's numbers alone
    said = capsys.readouterr().out
    for name, section in FIGURES.items():
        target = section.others.get(name, section.target)
        assert (
            name in drawn or f"{name}: left out, there are no results yet; make {target}\n" in said
        )
    text = page.html({})
    assert "make bench-training" in text
    assert "Speeds (S Tables 4 and 5)" in text


def test_every_command_that_the_page_names_is_a_target_of_make() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {section.target for section in page.SECTIONS}
    targets |= {target for section in page.SECTIONS for target in section.others.values()}
    assert all(re.search(rf"^{target}:.*## ", text, re.MULTILINE) for target in targets)


def test_the_planner_takes_over_where_workers_end() -> None:
    plan = growth.planned(2**23)
    assert plan.keys() == {*growth.REAL, *growth.SIMULATED}
    two, many = plan[2]["bytes"], plan[1024]["bytes"]
    assert two["sign"] < many["sign"] < 2.2 * two["sign"]  # O(1): (K - 1) / K, and headers
    _, planned, _ = growth.tables(store.read("growth"))
    assert len(planned.rows) == len(plan)


@pytest.mark.parametrize("name", FIGURES)
def test_what_is_kept_still_draws(name: str) -> None:
    """The results in the repository fit the code that reads them, and each has its figure."""
    section = FIGURES[name]
    results = store.read(section.results) if section.results else {}
    assert section.figures[name](results) is not None
    assert (ROOT / "docs" / "results" / f"{name}.png").exists()


def test_the_page_that_is_kept_is_what_the_results_say() -> None:
    kept = (ROOT / "docs" / "results" / "index.html").read_text(encoding="utf-8")
    shown = dict(re.findall(r'<img src="(.*?)\.png" alt="(.*?)">', kept))
    assert shown.keys() == FIGURES.keys()
    assert kept == page.html(shown)
