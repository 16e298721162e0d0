"""Steps of methods: by hand, and what must hold for all of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plan.examples import LINK, VALUES, profile, setting
from thinwire.plan import BucketTimes, Costs, Link, Network, Setting, SubBatchTimes, predict
from thinwire.plan.methods import (
    DENSE,
    DOUBLE_BUFFERED,
    FP16,
    METHODS,
    ONE_BIT,
    alone,
    bytes_per_sample,
    h_hat,
    k_hat,
    local_steps,
    model_parallel,
    step,
)
from thinwire.plan.rounds import predict_round
from thinwire.plan.step import pipeline

LOCAL = (local_steps(ONE_BIT, 8), local_steps(DENSE, 8, 3))
COSTS = Costs(SubBatchTimes((1, 100), (0.01, 1.0)), post=0.2, apply=0.1)


def test_without_and_with_double_buffering_by_hand() -> None:
    wires = [BucketTimes(1.0, 0.2, 0.1)]
    plain = predict(COSTS, wires, 100, 2)
    assert plain.seconds == pytest.approx(0.5 + 0.1 + 0.1 + 0.3)
    assert plain.hidden == 0
    buffered = predict(COSTS, wires, 100, 2, double_buffer=True)
    assert buffered.seconds == pytest.approx(2 * (0.25 + 0.1 + 0.1))  # the wire hides
    assert buffered.hidden == pytest.approx(0.6)
    slow = predict(COSTS, [BucketTimes(1.0, 2.0, 0.0)], 100, 2, double_buffer=True)
    assert slow.seconds == pytest.approx(4.0)  # the computing hides


def test_what_s_does_not_count() -> None:
    costs = Costs(COSTS.times, post=0.2, apply=0.1, exchange=0.05, read=0.001)
    wires = [BucketTimes(1.0, 0.2, 0.1)]
    assert predict(costs, wires, 100, 2).seconds == pytest.approx(1.0 + 0.05 + 0.1)
    buffered = predict(costs, wires, 100, 2, double_buffer=True)
    assert buffered.seconds == pytest.approx(0.9 + 2 * 0.05)


buckets = st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1)), max_size=6)


@given(buckets, st.floats(0.01, 2), st.floats(0, 1))
def test_overlap_saves_and_never_beats_its_parts(
    parts: list[tuple[float, float, float]], variable: float, post: float
) -> None:
    whole = sum(share for share, _, _ in parts) or 1.0
    wires = [BucketTimes(share / whole, one, two) for share, one, two in parts]
    seconds = pipeline(variable, post, COSTS, wires)
    computing = variable + post + COSTS.upd
    comm = sum(wire.gradients + wire.updates for wire in wires)
    assert max(computing, comm) - 1e-9 <= seconds <= computing + comm + 1e-9
    joined = [BucketTimes(1.0, sum(w.gradients for w in wires), sum(w.updates for w in wires))]
    assert seconds <= pipeline(variable, post, COSTS, joined) + 1e-9


def test_one_bit_by_hand() -> None:
    """4 workers, N = 1000: 250 samples each; the packets are 128 kB less 1/32 and levels."""
    found = step(setting(), ONE_BIT, 1000, 4)
    assert found is not None
    assert found.variable == pytest.approx(0.250)
    assert found.post == pytest.approx(VALUES * (4e-9 + 3e-9) / 4)
    assert found.upd == pytest.approx(VALUES * (1e-9 + 3e-9 + 1e-9 + 1e-9 + 1e-9))
    packet = 16 + 250 * (4 + 128)
    assert found.comm == pytest.approx(6 * packet / 1e6 + 2 * LINK.latency)
    assert found.rest == 0.002
    assert found.hidden == 0


def test_fp16_by_hand() -> None:
    found = step(setting(), FP16, 1000, 2)
    assert found is not None
    assert found.comm == pytest.approx(2 * VALUES / 1e6 + 2 * LINK.latency)
    assert found.post == 0


def test_model_parallelism_divides_fixed_cost_and_pays_in_computing() -> None:
    plain, split = (
        step(setting(), ONE_BIT, 1000, 4),
        step(setting(), model_parallel(ONE_BIT, 2), 1000, 8),
    )
    assert plain is not None
    assert split is not None
    assert split.workers == 4
    assert split.upd == pytest.approx(plain.upd / 2)
    assert split.variable == pytest.approx(plain.variable / 1.55)
    assert split.comm == plain.comm
    assert step(setting(), model_parallel(ONE_BIT, 2), 1000, 3) is None


@given(st.sampled_from([*METHODS, *LOCAL]), st.integers(1, 256), st.integers(1, 10**5))
def test_a_slower_wire_never_helps(method: object, workers: int, minibatch: int) -> None:
    fast, slow = (step(setting(Link(b)), method, minibatch, workers) for b in (1e9, 1e6))
    assert fast is not None
    assert slow is not None
    assert fast.seconds <= slow.seconds + 1e-12
    assert fast.samples_per_second == pytest.approx(minibatch / fast.seconds)


@given(st.sampled_from(METHODS), st.integers(1, 7))
def test_without_a_wire_s_cost_more_workers_are_faster(method: object, power: int) -> None:
    free = setting(Link(math.inf))
    few, many = step(free, method, 2**14, 2**power), step(free, method, 2**14, 2 ** (power + 1))
    assert few is not None
    assert many is not None
    assert many.seconds <= few.seconds


def test_one_worker_is_near_plain_training() -> None:
    found = step(setting(), DENSE, 1000, 1)
    assert found is not None
    assert found.comm == 0
    assert alone(setting(), 1000) == pytest.approx(1.0 + VALUES * 5e-9 + 0.002)
    assert found.seconds > alone(setting(), 1000)


def test_k_hat_saturates_both() -> None:
    """At K-hat, computing and wire take the same time in each half."""
    where = setting(Link(3e5))
    K = k_hat(where, DOUBLE_BUFFERED, 20_000)
    found = step(where, DOUBLE_BUFFERED, 20_000, round(K))
    assert found is not None
    assert found.comm == pytest.approx(found.variable + found.post + found.upd, rel=0.05)
    assert k_hat(where, DENSE, 20_000) < K < k_hat(where, DOUBLE_BUFFERED, 80_000)
    assert k_hat(where, ONE_BIT, 20_000) > K  # without buffering the whole minibatch counts


def test_a_mean_local_step_by_hand() -> None:
    """Once in a round of 4: 0.1 + 0.1 s of computing, 0.05 s for an exchange, 0.9 s of wire."""
    costs = Costs(COSTS.times, post=0.2, apply=0.1, exchange=0.05, own=0.02)
    wires = [BucketTimes(0.5, 0.4, 0.1), BucketTimes(0.5, 0.3, 0.1)]
    plain = predict_round(costs, wires, 100, 2, every=4, delay=0)
    assert plain.seconds == pytest.approx(0.5 + 0.02 + (0.1 + 0.1 + 0.05 + 0.9) / 4)
    assert (plain.variable, plain.hidden) == (0.5, 0)
    assert plain.upd == pytest.approx(0.02 + 0.1 / 4)
    assert plain.comm == pytest.approx(0.9 / 4)
    one = predict_round(costs, wires, 100, 2, every=4, delay=1)  # a step is 0.52 s
    assert one.seconds == pytest.approx(0.5 + 0.02 + (0.1 + 0.1 + 0.05 + 0.9 - 0.52) / 4)
    assert one.hidden == pytest.approx(0.52 / 4)
    two = predict_round(costs, wires, 100, 2, every=4, delay=2)
    assert two.seconds == pytest.approx(0.5 + 0.02 + (0.1 + 0.1 + 0.05) / 4)


def test_local_steps_by_hand() -> None:
    """4 workers, N = 1000, rounds of 8: what 1-bit does in every step is done in one of eight."""
    eight = local_steps(ONE_BIT, 8)
    found, every = step(setting(), eight, 1000, 4), step(setting(), ONE_BIT, 1000, 4)
    assert found is not None
    assert every is not None
    own = VALUES * (4e-9 + 1e-9)
    assert found.variable == every.variable
    assert found.post == pytest.approx(every.post / 8)
    assert found.upd == pytest.approx(own + every.upd / 8)
    assert (found.rest, found.comm) == (every.rest / 8, every.comm / 8)
    assert found.seconds == pytest.approx(
        0.25 + own + (every.post + every.upd + every.rest + every.comm) / 8
    )


def test_h_hat_by_hand() -> None:
    """A local step takes 250 ms and 5.12 ms; the wire 6 packets of 33 016 bytes and 2 ms."""
    local, wire = 0.250 + 5.12e-3, 6 * 33_016 / 1e6 + 0.002
    assert h_hat(setting(), ONE_BIT, 1000, 4) == math.ceil(wire / local / 0.1) == 8
    assert h_hat(setting(), local_steps(ONE_BIT, 64), 1000, 4) == 8, "its own H does not count"
    assert h_hat(setting(), local_steps(ONE_BIT, 8, 4), 1000, 4) == 5
    slow = setting(Link(1e5))
    delayed = math.ceil((6 * 33_016 / 1e5 / local - 2) / 0.1)
    assert h_hat(slow, local_steps(ONE_BIT, 8, 2), 1000, 4) == delayed == 58
    for method in (FP16, DOUBLE_BUFFERED, model_parallel(ONE_BIT, 2)):
        assert h_hat(setting(), method, 1000, 4) is None


def test_bytes_for_a_sample_by_hand() -> None:
    packet = 16 + 250 * (4 + 128)
    for method, sent in (
        (ONE_BIT, 6 * packet),
        (local_steps(ONE_BIT, 8), 6 * packet / 8),
        (DOUBLE_BUFFERED, 2 * 6 * packet),
        (FP16, 4 * VALUES * 3 / 4),
        (DENSE, 8 * VALUES * 3 / 4 + 6 * 16),
        (model_parallel(ONE_BIT, 2), 3 * packet),
    ):
        found = bytes_per_sample(setting(), method, 1000, 4)
        assert found == pytest.approx(sent / 1000), method.name


def test_k_hat_of_local_steps_is_where_a_round_is_half_exchange() -> None:
    eight, where = local_steps(ONE_BIT, 8), setting(Link(3e5))
    K = k_hat(where, eight, 1000)
    found = step(where, eight, 1000, round(K))
    assert found is not None
    assert found.comm == pytest.approx(
        found.variable + found.post + found.upd + found.rest, rel=0.1
    )
    assert k_hat(where, ONE_BIT, 1000) < K


def test_shared_processors_slow_computing_only() -> None:
    flat = setting()
    shared = Setting(profile(), Network(LINK), shared=True)
    for workers, factor in ((1, 1), (2, 1), (4, 2)):  # 2 processors, 1 thread each
        one, other = step(flat, ONE_BIT, 1000, workers), step(shared, ONE_BIT, 1000, workers)
        assert one is not None
        assert other is not None
        assert other.variable == pytest.approx(factor * one.variable)
        assert other.comm == one.comm
