"""The Armijo conditions, of first and of second order."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinwire.search import C, Direction, largest_sufficient, lowest_sufficient, sufficient

numbers = st.floats(-1e3, 1e3)


def direction(slope, curvature=1.0):
    kind = "newton" if curvature > 0 else "negative curvature"
    return Direction(torch.zeros(1), slope, curvature, 1.0, 0.0, kind)


@given(numbers, numbers, st.floats(1e-3, 16), st.floats(-1e3, 0), numbers)
def test_never_uphill(f0, f, alpha, slope, curvature):
    if sufficient(f0, f, alpha, direction(slope, curvature)):
        assert f <= f0


@given(numbers, st.floats(1e-3, 16), st.floats(-1e3, -1e-3), numbers)
def test_the_promise_kept_is_enough_and_half_of_it_is_not(f0, alpha, slope, curvature):
    along = direction(slope, curvature)
    promised = alpha * slope + min(0, alpha**2 * curvature / 2)
    assert sufficient(f0, f0 + 1.01 * C * promised, alpha, along)
    if f0 + 0.5 * C * promised > f0 + 0.9 * C * promised:  # not the same in rounding
        assert not sufficient(f0, f0 + 0.5 * C * promised, alpha, along)


def test_second_order_decides_where_the_slope_is_zero():
    """x^2 - y^2 along y from the saddle: every length is sufficient; along x none is."""
    down, up = direction(0.0, -2.0), direction(0.0, 2.0)
    for alpha in (0.01, 1.0, 8.0):
        assert sufficient(0.0, -(alpha**2), alpha, down)
        assert not sufficient(0.0, 0.0, alpha, down)
        assert not sufficient(0.0, alpha**2, alpha, up)


@pytest.mark.parametrize("f", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_never_sufficient(f):
    assert not sufficient(1.0, f, 1.0, direction(-1.0))
    assert largest_sufficient(1.0, [f, 0.5], [1.0, 0.5], direction(-1.0)) == 1
    assert lowest_sufficient(1.0, [f, 0.5], [1.0, 0.5], direction(-1.0)) == 1


def test_which_step_is_picked():
    losses, alphas = [2.0, 0.9, 0.1, 0.5], [1.0, 0.5, 0.25, 0.125]
    assert largest_sufficient(1.0, losses, alphas, direction(-1.0)) == 1
    assert lowest_sufficient(1.0, losses, alphas, direction(-1.0)) == 2
    for pick in (largest_sufficient, lowest_sufficient):
        assert pick(0.0, losses, alphas, direction(-1.0)) is None
        assert pick(0.0, [], [], direction(-1.0)) is None


@given(st.lists(st.tuples(numbers, st.floats(1e-3, 16)), max_size=8), st.floats(-10, 0), numbers)
def test_picks_are_the_best_of_those_that_are_sufficient(trials, slope, curvature):
    along = direction(slope, curvature)
    losses, alphas = [f for f, _ in trials], [a for _, a in trials]
    good = [i for i, (f, a) in enumerate(trials) if sufficient(0.0, f, a, along)]
    largest = largest_sufficient(0.0, losses, alphas, along)
    lowest = lowest_sufficient(0.0, losses, alphas, along)
    if not good:
        assert largest is lowest is None
        return
    assert largest in good
    assert lowest in good
    assert alphas[largest] == max(alphas[i] for i in good)
    assert losses[lowest] == min(losses[i] for i in good)
