"""The law of samples against minibatch sizes, and when a goal was reached."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.plan import Goal
from thinwire.plan.convergence import CoursePoint, Reached, fit, reached


@given(
    st.floats(100, 1e7), st.floats(1, 1e5), st.lists(st.integers(1, 10**4), min_size=2, unique=True)
)
def test_the_law_is_found_again(samples: float, steps: float, sizes: list[int]) -> None:
    runs = [Reached(n, (samples + steps * n) / n, samples + steps * n) for n in sizes]
    law = fit(runs)
    for n in sizes:
        assert law.samples(n) == pytest.approx(samples + steps * n, rel=1e-6)
    assert law.least_samples >= 0
    assert law.least_steps >= 0


def test_no_term_of_the_law_is_negative() -> None:
    falling = fit([Reached(100, 0, 2000), Reached(200, 0, 1500)])
    assert falling.least_steps == 0
    assert 1500 < falling.least_samples < 2000
    steep = fit([Reached(100, 0, 1000), Reached(200, 0, 4000)])
    assert steep.least_samples == 0
    assert steep.error > 0.3  # and it says how badly it fits


def test_seeds_are_averaged_and_one_size_knows_no_other() -> None:
    law = fit([Reached(512, 10, 5000), Reached(512, 14, 7000)])
    assert law.samples(512) == 6000
    assert law.known(512)
    assert not law.known(1024)


def error(value: float) -> Goal:
    return Goal("test_error", value, "")


def test_reaching_a_goal() -> None:
    course = [CoursePoint(1, 10, 0.5), CoursePoint(2, 20, 0.3), CoursePoint(3, 30, 0.4)]
    assert reached(course, error(0.5), 10) == Reached(10, 1, 10)
    assert reached(course, error(0.1), 10) is None
    assert reached([], error(0.1), 10) is None
    found = reached(course, error(0.4), 10)
    assert found is not None
    assert found.steps == pytest.approx(1.5)


def test_a_metric_that_grows_is_reached_from_below() -> None:
    course = [CoursePoint(1, 10, 0.5), CoursePoint(2, 20, 0.7), CoursePoint(3, 30, 0.6)]
    found = reached(course, Goal("test_accuracy", 0.6, "", higher_is_better=True), 10)
    assert found is not None
    assert found.steps == pytest.approx(1.5)
    assert reached(course, Goal("test_accuracy", 0.8, "", higher_is_better=True), 10) is None
