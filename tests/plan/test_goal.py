"""What a user says of a metric and a target, and what events are searched for."""

import math
from pathlib import Path

import pytest

from tests.plan.examples import write_run
from thinwire.plan import Goal, make_goal
from thinwire.report import load_runs


@pytest.mark.parametrize(
    ("metric", "target", "goal"),
    [
        ("test", 2.5, Goal("test_error", 0.025, "2.5 % test error")),
        ("train", 2, Goal("train_error", 0.02, "2 % train error")),
        ("test_error", 2, Goal("test_error", 0.02, "2 % test error")),
        ("test_loss", 0.3, Goal("test_loss", 0.3, "0.3 test loss")),
    ],
)
def test_names_and_units(metric: str, target: float, goal: Goal) -> None:
    assert make_goal(metric, target) == goal


def test_runs_say_which_metrics_there_are_and_which_way_is_better(tmp_path: Path) -> None:
    metrics = [
        {"name": "r2", "title": "explained variance", "higher_is_better": True, "percent": True},
        {"name": "mse", "title": "squared error"},
    ]
    runs = load_runs([write_run(tmp_path, "1-bit SGD", 256, 40, metrics=metrics)])
    assert make_goal("test", 90, runs) == Goal("test_r2", 0.9, "90 % test explained variance", True)
    assert make_goal("train_mse", 3, runs) == Goal("train_mse", 3, "3 train squared error")
    with pytest.raises(
        ValueError, match="expected test, train or one of test_loss, test_r2, test_mse, tr"
    ):
        make_goal("test_error", 2, runs)


@pytest.mark.parametrize(
    ("metric", "target"), [("test", 0), ("test", 100), ("test_loss", math.inf)]
)
def test_a_target_nobody_can_reach_is_refused(metric: str, target: float) -> None:
    with pytest.raises(ValueError, match="target: expected"):
        make_goal(metric, target)


@pytest.mark.parametrize("metric", ["", "loss", "tests_loss", "test_los", "valid_error"])
def test_a_metric_that_nobody_measures_is_refused(metric: str) -> None:
    with pytest.raises(ValueError, match="metric: expected test, train or one of test_loss, te"):
        make_goal(metric, 2)


def test_which_way_is_better() -> None:
    error, accuracy = make_goal("test", 10), Goal("test_accuracy", 0.9, "", higher_is_better=True)
    assert error.is_met(0.1)
    assert error.is_met(0.09)
    assert not error.is_met(0.11)
    assert accuracy.is_met(0.9)
    assert accuracy.is_met(0.91)
    assert not accuracy.is_met(0.89)
