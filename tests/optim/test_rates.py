import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire import momentum_from_time_constant, rates_for_batch

batches = st.integers(1, 10**5)


@given(st.floats(1e-4, 10), st.floats(0, 0.99), batches, batches, st.booleans())
def test_conversion_there_and_back_is_the_identity(
    lr: float, momentum: float, stated: int, actual: int, normalised: bool
) -> None:
    there = rates_for_batch(lr, momentum, stated, actual, normalised=normalised)
    if momentum > 0 and not 1e-12 < there[1] < 1 - 1e-12:
        return  # momentum underflowed to 0 or 1: information is lost by then
    back = rates_for_batch(*there, actual, stated, normalised=normalised)
    assert back == pytest.approx((lr, momentum), rel=1e-3)


@given(st.floats(1e-4, 10), st.floats(0, 0.99), batches, batches)
def test_what_one_sample_contributes_is_kept(
    lr: float, momentum: float, stated: int, actual: int
) -> None:
    new_lr, new_momentum = rates_for_batch(lr, momentum, stated, actual, normalised=False)
    per_sample = lr / ((1 - momentum) * stated)
    if new_momentum < 1 - 1e-9:
        assert new_lr / ((1 - new_momentum) * actual) == pytest.approx(per_sample)


def test_rates_without_a_stated_batch_are_used_as_they_are() -> None:
    assert rates_for_batch(0.3, 0.9, None, 77, normalised=True) == (0.3, 0.9)


@given(st.floats(1, 1e6), batches, batches)
def test_time_constant_is_per_sample(samples: float, first: int, second: int) -> None:
    together = momentum_from_time_constant(samples, first + second)
    apart = momentum_from_time_constant(samples, first) * momentum_from_time_constant(
        samples, second
    )
    assert together == pytest.approx(apart, rel=1e-9, abs=1e-300)


def test_bad_time_constant() -> None:
    with pytest.raises(ValueError, match="-1"):
        momentum_from_time_constant(-1, 10)
    assert momentum_from_time_constant(0, 10) == 0.0
