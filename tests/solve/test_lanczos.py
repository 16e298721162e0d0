"""The smallest Ritz value against dense eigenvalues."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.solve.systems import system
from thinwire.solve import most_negative


@given(st.integers(0, 2**31), st.integers(1, 15), st.sampled_from([1, 2]))
def test_a_whole_krylov_space_holds_the_smallest_eigenvalue(seed, n, signs):
    problem = system(seed, n, 50.0, signs=signs)
    value, d = most_negative(problem.B.matmul, problem.b, iterations=n)
    least = torch.linalg.eigvalsh(problem.B)[0]
    assert value == pytest.approx(float(least), rel=1e-6, abs=1e-6)
    assert float(d.norm()) == pytest.approx(1)
    assert float(d @ problem.B @ d) == pytest.approx(value, rel=1e-6, abs=1e-6)


@given(st.integers(0, 2**31), st.integers(2, 60), st.sampled_from([torch.float32, torch.float64]))
def test_a_part_of_it_is_never_below_and_says_the_truth(seed, n, dtype):
    problem = system(seed, n, 1e3, signs=2)
    B, probe = problem.B.to(dtype), problem.b.to(dtype)
    previous = math.inf
    slack = 1e4 * torch.finfo(dtype).eps * 1e3
    for iterations in (1, 3, 6):
        value, d = most_negative(B.matmul, probe, iterations=iterations)
        assert value >= float(torch.linalg.eigvalsh(problem.B)[0]) - slack
        assert value <= previous + slack
        assert float(d.norm()) == pytest.approx(1, abs=slack)
        assert float(d @ B @ d) == pytest.approx(value, abs=slack)
        previous = value


def test_a_probe_finds_what_a_gradient_cannot_see():
    B = torch.diag(torch.tensor([3.0, 1.0, -0.01], dtype=torch.float64))
    gradient = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    assert most_negative(B.matmul, gradient)[0] == pytest.approx(1)
    value, d = most_negative(B.matmul, torch.ones(3, dtype=torch.float64))
    assert value == pytest.approx(-0.01)
    assert d.abs().tolist() == pytest.approx([0, 0, 1], abs=1e-6)


@pytest.mark.parametrize(("diagonal", "least"), [([0.0, 0.0], 0.0), ([2.0, 2.0], 2.0)])
def test_an_eigenvector_as_probe_ends_at_once(diagonal, least):
    products = []
    B = torch.diag(torch.tensor(diagonal, dtype=torch.float64))

    def product(v):
        products.append(v)
        return B @ v

    value, d = most_negative(product, torch.ones(2, dtype=torch.float64))
    assert value == pytest.approx(least)
    assert len(products) == 1
    assert float(d.norm()) == pytest.approx(1)


@pytest.mark.parametrize("after", [0, 2])
def test_a_product_that_is_not_finite_finds_nothing(after):
    problem = system(0, 6, 10.0, signs=2)
    seen = []

    def broken(v):
        seen.append(v)
        return problem.B @ v if len(seen) <= after else v * math.nan

    value, d = most_negative(broken, problem.b)
    assert value == math.inf
    assert d is problem.b
