"""Figures made of stored measurements."""

from typing import Any

import pytest

from benchmarks import exchange_table, training_table
from benchmarks.training_contenders import GRIDS, START, Rates


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


def test_time_to_target_counts_the_exact_start_apart() -> None:
    rates = GRIDS["mnist"][1]
    wire = {
        "steps": [step(9, 9, True)] * 2
        + [step(2, 200, True)] * 2
        + [step(9, 9, False)] * 2
        + [step(0.5, 10, False)] * 3,
        "scores": [],
        "reached": None,
    }
    runs = {
        training_table.grid_key("mnist", "thinwire hook", GRIDS["mnist"][0]): {"reached": None},
        training_table.grid_key("mnist", "thinwire hook", rates): {"reached": 120},
        training_table.speed_key("mnist", "thinwire hook", "1gbit"): {
            "settings": {"lr": rates.lr, "momentum": rates.momentum, "rate": "1gbit"},
            **training_table.compact(wire),
        },
    }
    row = training_table.row(runs, "mnist", "thinwire hook", "1gbit")
    assert isinstance(row, training_table.Row)
    assert row.rates == rates
    assert row.steps_a_second == 2
    assert row.steps == 120
    assert row.seconds == START * 2 + (120 - START) * 0.5
    assert row.megabytes == pytest.approx((START * 200 + (120 - START) * 10) / 1e6)


def test_the_point_that_needs_fewest_steps_is_best() -> None:
    grid = GRIDS["transformer"]
    reached = {grid[0]: 300, grid[2]: 200, grid[3]: None}
    runs = {
        training_table.grid_key("transformer", "dense", rates): {"reached": steps}
        for rates, steps in reached.items()
    }
    assert training_table.best_point(runs, "transformer", "dense") == grid[2]
    assert training_table.best_point(runs, "transformer", "fp16") is None
    assert isinstance(grid[2], Rates)
