"""The Levenberg-Marquardt rule as a table, and its range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.search import after_failure, after_step


@pytest.mark.parametrize(
    ("ratio", "hesitant", "factor"),
    [
        (1.2, False, 1 / 3),
        (0.76, False, 1 / 3),
        (0.76, True, 1 / 3),
        (0.75, False, 1),
        (0.5, True, 1),
        (0.25, False, 1),
        (0.24, False, 2),
        (0.0, False, 2),
        (-3.0, False, 2),
        (None, False, 1),
        (None, True, 2),
    ],
)
def test_table(ratio, hesitant, factor):
    assert after_step(0.3, ratio, hesitant=hesitant) == pytest.approx(0.3 * factor)


@pytest.mark.parametrize(
    ("damping", "expected"), [(1e-6, 2e-4), (1e-4, 2e-4), (0.3, 0.6), (900, 1e3)]
)
def test_after_failure(damping, expected):
    assert after_failure(damping) == pytest.approx(expected)


@given(
    st.floats(1e-6, 1e3),
    st.lists(st.none() | st.tuples(st.none() | st.floats(-10, 10), st.booleans()), max_size=40),
)
def test_stays_in_range(damping, events):
    for event in events:
        before = damping
        if event is None:
            damping = after_failure(damping)
            assert damping > before or damping == 1e3
        else:
            damping = after_step(damping, event[0], hesitant=event[1])
        assert 1e-6 <= damping <= 1e3
