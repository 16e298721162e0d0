"""The runner: what is missing is measured, stored as it comes, and tried again if it failed."""

import doctest
from pathlib import Path
from typing import Any

import pytest

from benchmarks import command, launch, runner, store, tables, timing
from benchmarks.command import main
from benchmarks.launch import Place
from benchmarks.runner import Benchmark, Cell, CellError, SettingError, missing, run, seconds_left
from benchmarks.store import Result
from benchmarks.tables import Table

CALLS: list[dict[str, Any]] = []


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    CALLS.append(settings)
    if settings["x"] < 0:
        raise CellError("x: expected 0 or more")
    return {"twice": 2 * settings["x"]}


def benchmark(*cells: Cell, **options: Any) -> Benchmark:
    def show(results: Any) -> list[Table]:
        return [Table("Twice", ("x",), [[key] for key in results])]

    return Benchmark("t", "benchmarks.t", lambda _: list(cells), show, **options)


@pytest.fixture(autouse=True)
def calls() -> list[dict[str, Any]]:
    CALLS.clear()
    return CALLS


ONE, TWO = Cell("one", {"x": 1}, measure), Cell("two", {"x": 2}, measure, seed=7)


def test_what_is_stored_is_not_measured_again(here: Path) -> None:
    both = benchmark(ONE, TWO)
    run(both)
    assert CALLS == [{"x": 1, "seed": 0}, {"x": 2, "seed": 7}]
    assert store.read("t")["two"].measures == {"twice": 4}
    assert store.read("t")["two"].command == "python -m benchmarks.t --only 'two'"
    run(both)
    assert len(CALLS) == 2
    run(benchmark(Cell("one", {"x": 5}, measure), TWO))
    assert CALLS[2:] == [{"x": 5, "seed": 0}]
    run(both, only=["tw"], again=True)
    assert CALLS[3:] == [{"x": 2, "seed": 7}]


def test_a_changed_seed_is_another_cell(here: Path) -> None:
    run(benchmark(TWO))
    other = Cell("two", {"x": 2}, measure, seed=8)
    assert missing([other], store.read("t")) == [other]


def test_failures_are_stored_and_tried_again_by_the_next_call(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = benchmark(Cell("bad", {"x": -1}, measure), ONE)
    run(bad)
    assert store.read("t")["bad"].error == "x: expected 0 or more"
    assert store.read("t")["one"].measures == {"twice": 2}
    assert "  bad: x: expected 0 or more" in capsys.readouterr().out
    run(bad)
    assert [call["x"] for call in CALLS] == [-1, 1, -1]


def test_later_cells_depend_on_what_earlier_ones_gave(here: Path) -> None:
    def cells(results: Any) -> list[Cell]:
        first = results["one"].measures["twice"] if "one" in results else 0
        return [ONE, Cell("then", {"x": first}, measure)]

    run(Benchmark("t", "benchmarks.t", cells, lambda _: []))
    assert store.read("t")["then"].measures == {"twice": 4}


@pytest.mark.slow
def test_several_at_a_time(here: Path) -> None:
    some = [Cell(f"{x}", {"x": x}, measure) for x in range(3)]
    run(benchmark(*some, processes=2))
    assert [r.measures["twice"] for r in store.read("t").values()] == [0, 2, 4]


class Workers:
    """``launch.on_workers`` without workers: cells are done until one of a name in ``fail``."""

    def __init__(self, fail: set[int]) -> None:
        self.fail, self.starts = fail, []

    def __call__(self, measure: str, cells: Any, place: Place, enter: Any) -> str | None:
        self.starts.append(([cell["x"] for cell in cells], place))
        for cell in cells:
            if cell["x"] in self.fail:
                return "ValueError: x"
            enter({"wall": 1.0, "measures": {"x": cell["x"]}})
        return None


def on_workers(x: int, start: str = "", workers: int = 2) -> Cell:
    return Cell(f"x {x}", {"x": x}, "module:function", Place(workers), start)


def test_cells_of_one_place_share_a_start_of_the_workers(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(set())
    monkeypatch.setattr(launch, "on_workers", workers)
    run(benchmark(on_workers(1), on_workers(2, "b"), on_workers(3), on_workers(4, workers=4)))
    assert workers.starts == [([1, 3], Place(2)), ([2], Place(2)), ([4], Place(4))]
    assert len(store.measured(store.read("t"))) == 4


def test_a_cell_that_fails_does_not_take_the_others_with_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers({2})
    monkeypatch.setattr(launch, "on_workers", workers)
    run(benchmark(on_workers(1), on_workers(2), on_workers(3)))
    assert [xs for xs, _ in workers.starts] == [[1, 2, 3], [3]]
    errors = {key: result.error for key, result in store.read("t").items()}
    assert errors == {"x 1": None, "x 2": "ValueError: x", "x 3": None}


def test_time_left_is_judged_by_what_is_alike() -> None:
    some = benchmark(ONE, TWO, guess=100.0, alike=("x",))
    results = {"other": Result("other", {"x": 1}, wall=3.0)}
    assert seconds_left(some, [ONE], results) == 3
    assert seconds_left(some, [ONE, TWO], results) == 103


def test_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(benchmark(ONE, TWO), ["--only", "one", "--set", "x=4"]) == 0
    said = capsys.readouterr().out
    assert store.read("t")["one"].measures == {"twice": 8}
    assert "| one |" in said
    assert "2 of 2 cells missing" in said  # with its own settings not even the first is there
    assert main(benchmark(ONE, TWO), ["--show"]) == 0
    assert len(CALLS) == 1
    assert main(benchmark(ONE), ["--set", "y=4"]) == 2
    assert capsys.readouterr().err == "benchmarks.t: --set: expected one of x, got 'y'\n"


def test_where_a_cell_runs_is_no_setting_to_change(here: Path) -> None:
    cell = Cell("a", {"x": 1, "hosts": 2}, measure)
    with pytest.raises(SettingError, match="--set: expected one of x, got 'hosts'"):
        run(benchmark(cell), given={"hosts": 4})


def test_what_is_made_of_results_is_made_after_measuring_only(here: Path) -> None:
    made: list[Any] = []
    some = benchmark(ONE, finish=made.append)
    main(some, ["--show"])
    assert made == []
    main(some, [])
    assert [list(results) for results in made] == [["one"]]


def test_jobs_take_turns_and_the_first_round_warms_up() -> None:
    order: list[str] = []
    work = {name: lambda name=name: order.append(name) for name in "ab"}
    costs = timing.in_turns(work, 2)
    assert order == ["a", "b"] * 3
    assert [len(own) for own in costs.values()] == [2, 2]


def test_doctests() -> None:
    for module in (command, launch, runner, store, tables, timing):
        assert doctest.testmod(module).failed == 0
