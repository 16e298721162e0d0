"""Costs add up, and so do evaluations."""

from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.curvature.cases import case
from thinwire import HessianOperator
from thinwire.curvature import NOTHING, Cost, Evaluation

counts = st.integers(0, 1000)
costs = st.builds(Cost, *(counts for _ in range(7)))


@given(costs, costs, costs)
def test_costs_add_up_in_any_order(a, b, c):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + NOTHING == a
    share = 0.25  # a power of two: no rounding
    assert (a + b).passes(share) == a.passes(share) + b.passes(share)
    assert (a.sums.vector_sums, a.sums.small_sums) == (a.vector_sums, a.small_sums)
    assert a.sums.passes(share) == 0


def test_an_evaluation_carries_what_led_to_it():
    first = Evaluation("a", Cost(losses=1), "one")
    second = Evaluation("b", Cost(products=2))
    third = Evaluation("c", Cost(losses=4), "three")
    joint = third.after(first, second, note="four")
    assert joint.result == "c"
    assert joint.cost == Cost(losses=5, products=2)
    assert joint.note == "one; three; four"
    with pytest.raises(FrozenInstanceError):
        joint.cost = NOTHING


def test_an_operator_adds_up_what_its_products_cost():
    module, loss, batch = case("sigmoid", "cross entropy")
    H = HessianOperator(module, loss, batch)
    v = torch.ones(43, dtype=torch.float64)
    H.product(v, against=[v])
    before = H.cost
    H.dots([(v, v)])
    H @ v
    assert before == Cost(products=1), "a cost that was taken does not change"
    assert H.cost == Cost(products=2)  # alone, nothing is sent
    assert H.products == 2
