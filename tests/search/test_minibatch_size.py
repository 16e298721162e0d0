"""The ladder of sizes, and the choice between them, against their own definitions."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.search import choose, ladder

sizes = st.integers(1, 10**5)
accuracies = st.floats(0, 1) | st.sampled_from([math.nan, math.inf, -math.inf])


@given(sizes, st.floats(1, 8), sizes, st.integers(1, 64))
def test_a_ladder_is_bounded_and_rounded_to_the_number_of_workers(
    current: int, growth: float, largest: int, workers: int
) -> None:
    found = ladder(current, growth, largest, workers)
    assert found == sorted(set(found))
    assert all(size % workers == 0 and size >= workers for size in found)
    assert max(found) <= max(workers, min(largest, growth * current))
    if workers <= current // 2 and current <= largest:
        fit = [size // workers * workers for size in (current // 2, current)]
        assert set(fit) <= set(found), "it may shrink, and stay"
        assert found[-1] > min(largest, math.floor(growth * current)) - workers, "and grow"
        assert all(after <= 2 * (before + workers) for before, after in pairwise(found))


def test_a_size_may_always_stay_where_nothing_may_grow() -> None:
    assert ladder(64, 1.0, 64) == [32, 64]
    assert ladder(1, 1.0, 1) == [1]
    with pytest.raises(ValueError, match=r"growth: expected >= 1, got 0\.5"):
        ladder(64, 0.5, 64)


@given(st.dictionaries(sizes, accuracies, min_size=1), st.floats(0, 1))
def test_the_largest_that_is_not_worse_by_more_than_the_margin(
    tried: dict[int, float], margin: float
) -> None:
    chosen = choose(tried, margin)
    finite = [value for value in tried.values() if math.isfinite(value)]
    if not finite:
        assert chosen == min(tried)
        return
    assert math.isfinite(tried[chosen]), "a failure is never chosen"
    assert tried[chosen] >= max(finite) - margin
    for size, value in tried.items():
        if size > chosen:
            assert not math.isfinite(value) or value < max(finite) - margin


def test_what_cannot_be_chosen_from_is_refused() -> None:
    with pytest.raises(ValueError, match="accuracies: expected at least one size"):
        choose({}, 0.1)
    with pytest.raises(ValueError, match=r"margin: expected >= 0, got -0\.1"):
        choose({1: 0.5}, -0.1)
