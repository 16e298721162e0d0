"""Hessian-free iterations, and H's accounting."""

from dataclasses import replace

import pytest

from tests.plan.examples import JOB, LINK, VALUES, setting
from thinwire.plan import Link, accounting
from thinwire.plan.hessian_free_iteration import k_hat, predict


def test_an_iteration_by_hand() -> None:
    found = predict(setting(), JOB, 2)
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
    one, two, four = (predict(setting(), job, workers) for workers in (1, 2, 4))
    assert one.curvature == two.curvature == four.curvature == pytest.approx(20 * 2.0 + 4 * 0.25)
    assert four.gradient == pytest.approx(2.5)
    vector = 2 * (LINK.latency + 4 * VALUES / 2 / 1e6)
    scalar = 2 * (LINK.latency + 4 / 1e6)
    assert two.comm == pytest.approx(vector + 3 * scalar)
    assert predict(setting(), JOB, 1).curvature == one.curvature


def test_hessian_free_scales_further_than_small_minibatches() -> None:
    where = setting(Link(1e7))
    assert k_hat(where, JOB) > 1
    more = replace(JOB, samples=100_000, batch=10_000)
    assert k_hat(where, more) > k_hat(where, JOB)
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
