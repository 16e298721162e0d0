"""Figures of tables, made of stored measurements."""

import doctest
import math
from typing import Any

import pytest

from benchmarks.exchange import rows as exchange_rows
from benchmarks.runner import missing, seconds_left
from benchmarks.store import Result
from benchmarks.training import contenders, rows
from benchmarks.training.__main__ import BENCHMARK
from benchmarks.training.cells import best_point, cells, speed_key, train_key, tune_key
from benchmarks.training.contenders import ENTRIES, SEEDS, changed, grid
from benchmarks.training.measure import compact

START = 20  # steps of the start of the run that is stored


def of(key: str, **measures: Any) -> dict[str, Result]:
    return {key: Result(key, {"rate": None, "point": {"start": START}}, measures=measures)}


def test_ratios_are_taken_within_a_repeat() -> None:
    dense = {"seconds": [4.0, 8.0, 4.0], "tx_bytes": 0, "payload_bytes": 1000}
    fast = {"seconds": [0.2, 0.4, 0.4], "tx_bytes": 0, "payload_bytes": 40, "ledger_bytes": 39}
    first, second = exchange_rows.rows(Result("", measures={"dense": dense, "fast": fast}))
    assert (first.ratio, first.factor, first.reached) == ((1, 1, 1), 1, 1)
    assert first.unexplained is None
    assert second.ratio == (20, 10, 20)
    assert second.factor == 25
    assert second.reached == pytest.approx(0.8)
    assert second.unexplained == pytest.approx(1 / 39)
    assert second.seconds == (0.4, 0.2, 0.4)


def step(seconds: float, sent: int, starting: bool) -> dict[str, Any]:
    return {"seconds": seconds, "bytes": sent, "received": 2 * sent, "starting": starting}


def tuned(task: str, contender: str, scores: list[float | None]) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for point, score in zip(grid(task, contender), scores, strict=True):
        pairs = [] if score is None else [[10, score]]
        found |= of(tune_key(task, contender, point), scores=pairs)
    return found


def trained(contender: str, reached: list[int | None]) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for seed, steps in zip(SEEDS, reached, strict=True):
        found |= of(train_key("mnist", contender, seed), reached=steps)
    return found


WIRE = compact(
    {
        "steps": [step(9, 9, True)] * 2
        + [step(2, 200, True)] * 2
        + [step(9, 9, False)] * 2
        + [step(0.5, 10, False)] * 3,
        "scores": [],
        "reached": None,
        "every": 1,
    }
)


def test_time_to_target_counts_the_start_apart() -> None:
    name = "thinwire hook"
    runs = {
        **tuned("mnist", "dense", [90, 95, 80, None]),  # a drop-in is not tuned itself
        **trained(name, [120, 140, 100]),
        **of(speed_key("mnist", name, "1gbit", 0), **WIRE),
    }
    row = rows.row(runs, "mnist", name, "1gbit")
    assert isinstance(row, rows.Row)
    assert row.point == grid("mnist", name)[1]
    assert row.steps_a_second == (2, 2, 2)
    assert (row.met, row.steps) == (3, (120, 100, 140))
    assert row.seconds == tuple(START * 2 + (steps - START) * 0.5 for steps in (120, 100, 140))
    assert row.megabytes is not None
    assert row.megabytes[0] == pytest.approx((START * 200 + (120 - START) * 10) / 1e6)
    assert row.received == tuple(2 * megabytes for megabytes in row.megabytes)
    assert rows.best([("dense", "an error"), row], "seconds") == 1


def test_a_step_has_its_share_of_what_repeats_only_after_several() -> None:
    steps = [step(9, 0, False)] * 3 + ([step(1, 0, False)] * 2 + [step(4, 30, False)]) * 2
    told = compact({"steps": steps, "scores": [], "reached": None, "every": 3})
    assert told["phases"]["steady"]["steps"] == 2  # the first round warms up
    assert told["phases"]["steady"]["seconds"] == 2
    assert told["phases"]["steady"]["bytes"] == 10
    assert told["total"]["bytes"] == 60


def test_a_target_that_most_seeds_miss_is_not_met() -> None:
    wire = of(speed_key("mnist", "dense", "1gbit", 0), **WIRE)
    some = rows.row({**wire, **trained("dense", [60, None, 80])}, "mnist", "dense", "1gbit")
    few = rows.row({**wire, **trained("dense", [60, None, None])}, "mnist", "dense", "1gbit")
    assert isinstance(some, rows.Row)
    assert isinstance(few, rows.Row)
    assert some.steps == (80, 60, math.inf)
    assert (few.met, few.steps, few.seconds) == (1, None, None)
    assert rows.best([few], "seconds") is None
    assert "met by 1 of 3 seeds" in rows.texts(few)


def test_an_error_on_the_wire_stands_in_the_table() -> None:
    key = speed_key("mnist", "dense", "1gbit", 0)
    failed = {key: Result(key, error="RuntimeError: x")}
    assert rows.row(failed, "mnist", "dense", "1gbit") == "RuntimeError: x"
    assert rows.row({}, "mnist", "dense", "1gbit") is None


def test_hessian_free_goes_to_the_target_on_the_wire_itself() -> None:
    name = "Hessian-free, Bi-CG-STAB"
    runs: dict[str, Result] = {}
    for seed, seconds in zip(SEEDS, (3.0, 1.0, 2.0), strict=True):
        steps = [step(seconds, 10**6, False)] * 4
        measures = compact({"steps": steps, "scores": [], "reached": 4, "every": 1})
        runs |= of(speed_key("families", name, "1gbit", seed), **measures)
    row = rows.row(runs, "families", name, "1gbit")
    assert isinstance(row, rows.Row)
    assert row.seconds == (8, 4, 12)
    assert row.megabytes == (4, 4, 4)


def test_the_best_score_chooses_and_an_unfinished_grid_does_not() -> None:
    runs = tuned("transformer", "dense", [2.2, 2.1, 2.4, None])  # a loss: the lower the better
    assert best_point(runs, "transformer", "dense") == grid("transformer", "dense")[1]
    runs.popitem()
    assert best_point(runs, "transformer", "dense") is None


def test_what_a_contender_has_alone_is_tried_at_the_best_of_the_grid() -> None:
    name = "PowerSGD rank 4"
    runs = tuned("transformer", name, [2.2, 2.1, 2.4, 2.3])
    best = grid("transformer", name)[1]
    assert best["start"] == 10
    assert best_point(runs, "transformer", name) is None  # the changes are not tried yet
    tried = changed(name, best)
    assert [point["start"] for point in tried] == [2, 20]
    wanted = {cell.key for cell in cells(runs)}
    for point, score in zip(tried, (2.05, 2.15), strict=True):
        assert tune_key("transformer", name, point) in wanted
        runs |= of(tune_key("transformer", name, point), scores=[[10, score]])
    assert best_point(runs, "transformer", name) == tried[0]


def test_the_best_point_is_what_is_trained() -> None:
    runs = tuned("mnist", "dense", [90, 95, 80, 70])
    by_key = {cell.key: cell for cell in cells(runs)}
    assert by_key[train_key("mnist", "dense", 2)].settings["point"] == grid("mnist", "dense")[1]
    assert by_key[train_key("mnist", "fp16", 2)].settings["point"] == grid("mnist", "fp16")[0]


def test_every_cell_is_measured_once_under_a_key_of_its_own() -> None:
    wanted = cells({})
    keys = [cell.key for cell in wanted]
    assert len(set(keys)) == len(keys)
    stored = {c.key: Result(c.key, c.settings, c.seed, wall=1.0) for c in wanted[5:]}
    assert missing(wanted, stored) == wanted[:5]
    left = seconds_left(BENCHMARK, wanted[:5], stored)
    assert 0 < left < seconds_left(BENCHMARK, wanted, {})
    stale = {wanted[0].key: Result(wanted[0].key, {**wanted[0].settings, "steps": 1})}
    assert missing(wanted[:1], stale) == wanted[:1]


def test_nobody_gets_a_larger_grid() -> None:
    assert {len(grid(task, name)) for task, names in ENTRIES.items() for name in names} == {4}


def test_doctests() -> None:
    assert doctest.testmod(contenders).failed == 0
