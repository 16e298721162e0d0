"""Figures made of stored measurements."""

import doctest
import math
from typing import Any

import pytest

from benchmarks import exchange_table, training, training_contenders, training_jobs, training_table
from benchmarks.training_contenders import CONTENDERS, ENTRIES, SEEDS, START, grid
from benchmarks.training_jobs import STAGES, best_settings


def exchange_run(**results: dict[str, Any]) -> dict[str, Any]:
    return {"settings": {"rate": "100mbit"}, "load": [0, 0], "results": results}


def test_ratios_are_taken_within_a_repeat() -> None:
    dense = {"seconds": [4.0, 8.0, 4.0], "tx_bytes": 0, "payload_bytes": 1000}
    fast = {"seconds": [0.2, 0.4, 0.4], "tx_bytes": 0, "payload_bytes": 40, "ledger_bytes": 39}
    first, second = exchange_table.rows(exchange_run(dense=dense, fast=fast))
    assert (first.ratio, first.factor, first.reached, first.unexplained) == (1, 1, 1, None)
    assert (second.ratio, second.ratio_low, second.ratio_high) == (20, 10, 20)
    assert second.factor == 25
    assert second.reached == pytest.approx(0.8)
    assert second.unexplained == pytest.approx(1 / 39)
    assert second.seconds == (0.4, 0.2, 0.4)


def step(seconds: float, sent: int, exact: bool) -> dict[str, Any]:
    return {"seconds": seconds, "bytes": sent, "exact": exact}


def tuned(task: str, contender: str, scores: list[float | None]) -> dict[str, Any]:
    return {
        training_jobs.tune_key(task, contender, settings): {
            "scores": [] if score is None else [[10, score]]
        }
        for settings, score in zip(grid(task, contender), scores, strict=True)
    }


def trained(contender: str, reached: list[int | None]) -> dict[str, Any]:
    return {
        training_jobs.train_key("mnist", contender, seed): {"reached": steps}
        for seed, steps in zip(SEEDS, reached, strict=True)
    }


WIRE = {
    "steps": [step(9, 9, True)] * 2
    + [step(2, 200, True)] * 2
    + [step(9, 9, False)] * 2
    + [step(0.5, 10, False)] * 3,
    "scores": [],
    "reached": None,
    "wall": 30.0,
}


def test_time_to_target_counts_the_exact_start_apart() -> None:
    name = "thinwire hook"
    runs = {
        **tuned("mnist", name, [90, 95, 80, None]),
        **trained(name, [120, 140, 100]),
        training_jobs.speed_key("mnist", name, "1gbit", 0): training_table.compact(WIRE),
    }
    row = training_table.row(runs, "mnist", name, "1gbit")
    assert isinstance(row, training_table.Row)
    assert row.settings == grid("mnist", name)[1]
    assert row.steps_a_second == (2, 2, 2)
    assert (row.met, row.steps) == (3, (120, 100, 140))
    assert row.seconds == tuple(START * 2 + (steps - START) * 0.5 for steps in (120, 100, 140))
    assert row.megabytes is not None
    assert row.megabytes[0] == pytest.approx((START * 200 + (120 - START) * 10) / 1e6)
    assert training_table.best([row], "seconds") == name


def test_a_target_that_most_seeds_miss_is_not_met() -> None:
    wire = {training_jobs.speed_key("mnist", "dense", "1gbit", 0): training_table.compact(WIRE)}
    some = training_table.row(
        {**wire, **trained("dense", [60, None, 80])}, "mnist", "dense", "1gbit"
    )
    few = training_table.row(
        {**wire, **trained("dense", [60, None, None])}, "mnist", "dense", "1gbit"
    )
    assert isinstance(some, training_table.Row)
    assert isinstance(few, training_table.Row)
    assert some.steps == (80, 60, math.inf)
    assert (few.met, few.steps, few.seconds) == (1, None, None)
    assert training_table.best([few], "seconds") is None
    assert "met by 1 of 3 seeds" in training_table.cells(few)


def test_hessian_free_goes_to_the_target_on_the_wire_itself() -> None:
    name = "Hessian-free, Bi-CG-STAB"
    runs = {
        training_jobs.speed_key("families", name, "1gbit", seed): training_table.compact(
            {"steps": [step(s, 10**6, False)] * 4, "scores": [], "reached": 4, "wall": 1.0}
        )
        for seed, s in zip(SEEDS, (3.0, 1.0, 2.0), strict=True)
    }
    row = training_table.row(runs, "families", name, "1gbit")
    assert isinstance(row, training_table.Row)
    assert row.seconds == (8, 4, 12)
    assert row.megabytes == (4, 4, 4)


def test_the_best_score_chooses_and_an_unfinished_grid_does_not() -> None:
    scores = [2.2, 2.1, 2.4, None]
    runs = tuned("transformer", "dense", scores)  # a loss: the lower the better
    assert best_settings(runs, "transformer", "dense") == grid("transformer", "dense")[1]
    runs.popitem()
    assert best_settings(runs, "transformer", "dense") is None


def test_every_cell_is_measured_once_under_a_key_of_its_own() -> None:
    everything = [list(ENTRIES), list(CONTENDERS), ["100mbit", "1gbit"]]
    jobs = [job for stage in STAGES for job in training_jobs.jobs({}, stage, *everything)]
    keys = [job.key for job in jobs]
    assert len(set(keys)) == len(keys)
    runs = {job.key: {"settings": job.to_json(), "wall": 1.0} for job in jobs[5:]}
    assert training_jobs.missing(runs, iter(jobs)) == jobs[:5]
    assert (
        0
        < training_jobs.expected_seconds(runs, jobs[:5])
        < training_jobs.expected_seconds({}, jobs)
    )
    stale = {**jobs[0].to_json(), "steps": 1}
    assert training_jobs.missing({jobs[0].key: {"settings": stale}}, iter(jobs[:1])) == jobs[:1]


def test_nobody_gets_a_larger_grid() -> None:
    assert {len(grid(task, name)) for task, names in ENTRIES.items() for name in names} == {4}


def test_doctests() -> None:
    for module in (training, training_table, training_contenders):
        assert doctest.testmod(module).failed == 0
