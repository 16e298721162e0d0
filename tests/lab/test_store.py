"""What is stored comes back, the last line of a key counts, and an interruption costs one line."""

import json
from pathlib import Path

import pytest

from benchmarks import store
from benchmarks.store import Result

FOLDER = Path(store.__file__).parent / "results"


def test_results_come_back(here: Path) -> None:
    one = Result("a", {"rate": None, "n": 3}, 1, {"seconds": [0.1, 0.2]}, command="x", wall=2.0)
    store.append("t", one)
    store.append("t", Result("b", error="no such flag"))
    found = store.read("t")
    assert list(found) == ["a", "b"]
    assert (found["a"].settings, found["a"].seed) == (one.settings, 1)
    assert (found["a"].measures, found["a"].wall, found["a"].load) == (one.measures, 2, [0, 0])
    assert found["a"].date
    assert (found["b"].error, found["b"].measures) == ("no such flag", {})
    assert list(store.measured(found)) == ["a"]
    assert store.read("nothing") == {}


def test_the_last_line_of_a_key_counts_and_keeps_its_place(here: Path) -> None:
    for key, value in (("a", 1), ("b", 2), ("a", 3)):
        store.append("t", Result(key, measures={"x": value}))
    assert [(key, run.measures["x"]) for key, run in store.read("t").items()] == [
        ("a", 3),
        ("b", 2),
    ]


def test_a_line_belongs_to_the_machine_above_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, torch in (("a", "1"), ("b", "1"), ("c", "2")):
        monkeypatch.setattr(store, "machine", lambda torch=torch: {"torch": torch})
        store.append("t", Result(key))
    assert [run.machine["torch"] for run in store.read("t").values()] == ["1", "1", "2"]
    assert store.path_of("t").read_text().count("machine") == 2
    assert store.machine_words(store.read("t")["c"]) == "torch 2"


def test_a_line_that_was_cut_short_is_dropped(here: Path) -> None:
    store.append("t", Result("a", measures={"x": 1}))
    with store.path_of("t").open("a") as lines:
        lines.write('{"key":"b","meas')
    assert list(store.read("t")) == ["a"]
    store.append("t", Result("c", measures={"x": 1}))
    assert list(store.read("t")) == ["a", "c"]


def test_floats_are_rounded_where_no_clock_can_tell(here: Path) -> None:
    store.append("t", Result("a", measures={"seconds": 1.23456789012, "n": 123456789012}))
    assert store.read("t")["a"].measures == {"seconds": 1.23456789, "n": 123456789012}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_all_that_is_kept_has_the_one_format(path: Path) -> None:
    machine, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert machine.keys() == {"machine"}
    for line in lines:
        if line.keys() == {"machine"}:
            continue  # what follows was measured on another one
        assert {"key", "settings", "seed", "command"} <= line.keys()
        assert ("measures" in line) != ("error" in line)
        assert line.keys() <= set(Result.__dataclass_fields__) - {"machine"}
