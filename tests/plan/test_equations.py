"""S eq. (3)-(4) by hand, and what must hold for any costs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.plan import SubBatchTimes
from thinwire.plan.equations import (
    WIRE_SHARE,
    crossing,
    fixed_cost_limit,
    h_hat,
    k_hat,
    round_seconds,
    step_seconds,
    t_calc,
)

seconds = st.floats(1e-6, 1.0)
sizes = st.integers(1, 10**6)
halves = st.sampled_from([1, 2])


def test_a_case_by_hand() -> None:
    # N = 1000, 1 ms a sample; C T_post = 20 ms; T_upd = 10 ms; T_comm / Z = 140 ms.
    assert t_calc(4, 1000, 1e-3, 0.02, 0.01) == pytest.approx((500 * 1e-3 + 0.02) / 4 + 0.01)
    assert k_hat(1000, 1e-3, 0.02, 0.01, 0.14) == pytest.approx(0.52 / 0.13)
    assert k_hat(1000, 1e-3, 0.02, 0.01, 0.14, halves=1) == pytest.approx(1.02 / 0.13)
    assert step_seconds(0.14, 0.14) == pytest.approx(0.28)
    assert fixed_cost_limit(1000, 1e-3, 0.02, 0.01, 0.14, halves=1) == pytest.approx(1.03 / 0.15)


@given(sizes, seconds, seconds, seconds, seconds, halves)
def test_k_hat_is_where_both_take_the_same_time(
    N: int, frm: float, post: float, upd: float, comm: float, parts: int
) -> None:
    K = k_hat(N, frm, post, upd, comm, halves=parts)
    if comm <= upd:
        assert math.isinf(K)  # S 2.3
    elif comm > 1.001 * upd:
        assert t_calc(K, N, frm, post, upd, halves=parts) == pytest.approx(comm)


@given(sizes, seconds, seconds, seconds, st.floats(1.01, 100), halves)
def test_more_samples_or_compression_parallelise_further(
    N: int, frm: float, post: float, upd: float, factor: float, parts: int
) -> None:
    K = k_hat(N, frm, post, upd, 2 * upd, halves=parts)
    assert k_hat(math.ceil(N * factor), frm, post, upd, 2 * upd, halves=parts) > K
    assert k_hat(N, frm, post, upd, 2 * factor * upd, halves=parts) < K


@given(sizes, seconds, seconds, seconds, seconds, st.integers(1, 10**5), halves)
def test_no_number_of_nodes_passes_the_fixed_cost_limit(
    N: int, frm: float, post: float, upd: float, comm: float, K: int, parts: int
) -> None:
    alone = N * frm + post + upd
    step = step_seconds(t_calc(K, N, frm, post, upd, halves=parts), comm, halves=parts)
    assert alone / step <= fixed_cost_limit(N, frm, post, upd, comm, halves=parts) * (1 + 1e-9)


@given(st.floats(1.0, 1e5), st.floats(1e-3, 1e3))
def test_crossing_agrees_with_the_closed_form(K: float, scale: float) -> None:
    found = crossing(lambda k: scale / k, lambda k: scale / K)
    assert found == pytest.approx(K, rel=2e-3, abs=1.0 if K < 2 else 0)


def test_crossing_has_limits() -> None:
    assert math.isinf(crossing(lambda K: 1.0, lambda K: 0.5))
    assert crossing(lambda K: 1 / K, lambda K: 5.0) == 1.0


def test_a_round_by_hand() -> None:
    # 8 local steps of 100 ms, 50 ms once in a round, 300 ms on the wire.
    assert round_seconds(8, 0, 0.1, 0.05, 0.3) == pytest.approx(0.8 + 0.05 + 0.3)
    assert round_seconds(8, 2, 0.1, 0.05, 0.3) == pytest.approx(0.8 + 0.05 + 0.1)
    assert round_seconds(8, 3, 0.1, 0.05, 0.3) == pytest.approx(0.8 + 0.05)
    assert h_hat(0, 0.1, 0.3) == 30  # 300 ms are a tenth of 30 x 100 ms
    assert h_hat(2, 0.1, 0.3) == 10  # two steps hide 200 ms, and 100 ms are a tenth of 10 x 100 ms
    assert h_hat(3, 0.1, 0.3) == 4  # all is hidden, and a delay is shorter than its round
    assert h_hat(0, 0.1, 0.3, share=0.5) == 6
    assert h_hat(0, 0.1, 0.0) == 1


@given(st.integers(0, 20), seconds, seconds)
def test_h_hat_is_the_smallest_at_which_the_wire_adds_so_little(
    D: int, local: float, comm: float
) -> None:
    H = h_hat(D, local, comm)

    def added(steps: int) -> float:
        return round_seconds(steps, D, local, 0.0, comm) - steps * local

    assert H > D
    assert added(H) <= WIRE_SHARE * H * local * (1 + 1e-6)
    if H > D + 1:
        assert added(H - 1) > WIRE_SHARE * (H - 1) * local * (1 - 1e-6)


@given(st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=6), st.floats(0, 1e4), st.floats(0, 1e4))
def test_a_larger_sub_batch_never_takes_less(times: list[float], a: float, b: float) -> None:
    measured = SubBatchTimes.increasing([2**i for i in range(4, 4 + len(times))], times)
    small, large = sorted((a, b))
    assert measured.variable(small) <= measured.variable(large) + 1e-12


def test_measured_points_are_kept() -> None:
    measured = SubBatchTimes((256, 512), (0.0408, 0.0708))
    assert measured.variable(256) == 0.0408
    assert measured.variable(512) == 0.0708
    assert measured.variable(768) == pytest.approx(0.1008)
    assert measured.per_sample(512) == pytest.approx(0.0708 / 512)


@pytest.mark.parametrize(
    ("sizes", "times", "said"),
    [
        ((), (), "at least one"),
        ((1, 2), (1.0,), "as many"),
        ((2, 1), (1.0, 1.0), "ascending"),
        ((1, 2), (1.0, 0.0), "> 0"),
        ((1, 2), (1.0, math.nan), "> 0"),
    ],
)
def test_nonsense_is_refused(sizes: tuple, times: tuple, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SubBatchTimes(sizes, times)
