"""What a user says of a metric and a target, and what events are searched for."""

import math

import pytest

from thinwire.plan import Goal, make_goal


@pytest.mark.parametrize(
    ("metric", "target", "goal"),
    [
        ("test", 2.5, Goal("test_error", 0.025, "2.5 % test error")),
        ("train", 2, Goal("train_error", 0.02, "2 % train error")),
        ("test_error", 2, Goal("test_error", 0.02, "2 % test error")),
        ("test_loss", 0.3, Goal("test_loss", 0.3, "0.3 test loss")),
        ("test_accuracy", 98, Goal("test_accuracy", 0.98, "98 % test accuracy", True)),
        ("test_per_error_rate", 9, Goal("test_per_error_rate", 0.09, "9 % test per error rate")),
    ],
)
def test_names_and_units(metric: str, target: float, goal: Goal) -> None:
    assert make_goal(metric, target) == goal


@pytest.mark.parametrize(("metric", "target"), [("test", 0), ("test", 100), ("loss", math.inf)])
def test_a_target_nobody_can_reach_is_refused(metric: str, target: float) -> None:
    with pytest.raises(ValueError, match="target: expected"):
        make_goal(metric, target)


def test_which_way_is_better() -> None:
    error, accuracy = make_goal("test", 10), make_goal("test_accuracy", 90)
    assert error.is_met(0.1)
    assert error.is_met(0.09)
    assert not error.is_met(0.11)
    assert accuracy.is_met(0.9)
    assert accuracy.is_met(0.91)
    assert not accuracy.is_met(0.89)
