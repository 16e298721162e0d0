"""Hessian-free iterations, H's accounting, convergence and time to a target."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plan.examples import LINK, VALUES, setting
from thinwire.plan import Link, accounting, hessian_free
from thinwire.plan.convergence import Progress, Reached, fit, reached
from thinwire.plan.methods import ONE_BIT, step
from thinwire.plan.target import hessian_free_time, sgd_time

JOB = hessian_free.Job(10_000, 1_000, gradients=1, losses=3, products=20, candidates=4)


def test_an_iteration_by_hand() -> None:
    found = hessian_free.predict(setting(), JOB, 2)
    vector = 2 * (LINK.latency + 4 * VALUES / 2 / 1e6)
    scalar = 2 * (LINK.latency + 4 / 1e6)
    assert found.gradient == pytest.approx(5.0)
    assert found.curvature == pytest.approx((20 * 2.0 + 4 * 0.25) * 0.5)
    assert found.search == pytest.approx(3 * 0.25 * 5.0)
    assert found.vectors == pytest.approx(21 * 5 * VALUES * 1e-9)
    assert found.comm == pytest.approx(21 * vector + 7 * scalar)
    assert found.seconds == pytest.approx(
        found.gradient + found.curvature + found.search + found.vectors + found.comm
    )


def test_a_replicated_batch_is_neither_shared_out_nor_sent() -> None:
    job = replace(JOB, replicated=True)
    one, two, four = (hessian_free.predict(setting(), job, workers) for workers in (1, 2, 4))
    assert one.curvature == two.curvature == four.curvature == pytest.approx(20 * 2.0 + 4 * 0.25)
    assert four.gradient == pytest.approx(2.5)
    vector = 2 * (LINK.latency + 4 * VALUES / 2 / 1e6)
    scalar = 2 * (LINK.latency + 4 / 1e6)
    assert two.comm == pytest.approx(vector + 3 * scalar)
    assert hessian_free.predict(setting(), JOB, 1).curvature == one.curvature


def test_hessian_free_scales_further_than_small_minibatches() -> None:
    where = setting(Link(1e7))
    assert hessian_free.k_hat(where, JOB) > 1
    more = replace(JOB, samples=100_000, batch=10_000)
    assert hessian_free.k_hat(where, more) > hessian_free.k_hat(where, JOB)
    with pytest.raises(ValueError, match="products: expected >= 0"):
        replace(JOB, products=-1)


def test_h_s_accounting_by_hand() -> None:
    """TIMIT as in H: 360 inputs, three layers of 512, 1973 classes."""
    widths = [360, 512, 512, 512, 1973]
    n, b = 709_765, 4096
    model = accounting.sgd_model_parallel(n, b, widths)
    data = accounting.sgd_data_parallel(n, b, 32, widths)
    assert model.floats == pytest.approx(2 * n * (3 * 512 + 1973))
    assert model.messages == pytest.approx(2 * 4 * n / b)
    matrices = 360 * 512 + 2 * 512 * 512 + 512 * 1973
    assert data.floats == pytest.approx(n / b * 5 * matrices)
    assert data.messages == pytest.approx(2 * n / b)
    iteration = accounting.hessian_free_iteration(32, widths, products=20, trials=1)
    assert iteration.floats == pytest.approx(5 * (21 * matrices + 1))
    assert iteration.messages == 44 < data.messages


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


def test_reaching_a_target() -> None:
    course = [Progress(1, 10, 0.5), Progress(2, 20, 0.3), Progress(3, 30, 0.4)]
    assert reached(course, 0.5, 10) == Reached(10, 1, 10)
    assert reached(course, 0.1, 10) is None
    assert reached([], 0.1, 10) is None
    found = reached(course, 0.4, 10)
    assert found is not None
    assert found.steps == pytest.approx(1.5)


def test_time_to_the_target_is_steps_times_a_step() -> None:
    law = fit([Reached(500, 0, 100_000), Reached(4000, 0, 200_000)])
    answer = sgd_time(setting(), ONE_BIT, law, 4)
    assert answer is not None
    made = step(setting(), ONE_BIT, answer.minibatch, 4)
    assert made is not None
    assert answer.seconds == pytest.approx(law.steps(answer.minibatch) * made.seconds)
    assert 500 <= answer.minibatch <= 4000
    crowded = sgd_time(setting(), ONE_BIT, law, 64)
    assert crowded is not None
    assert crowded.minibatch >= answer.minibatch  # more workers want larger minibatches


def test_time_of_hessian_free_runs_is_their_iterations_times_one() -> None:
    runs = [Reached(60_000, 9, 1_400_000), Reached(60_000, 11, 1_400_000)]
    answer = hessian_free_time(setting(), runs, JOB, 4)
    assert answer.steps == 10
    assert answer.seconds == pytest.approx(10 * hessian_free.predict(setting(), JOB, 4).seconds)
