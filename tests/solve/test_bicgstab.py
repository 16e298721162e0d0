"""Bi-CG-STAB against the textbook's and dense solutions; its breakdowns are outcomes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.solve.systems import (
    System,
    check_honest,
    indefinite,
    system,
    systems,
    textbook_bicgstab,
)
from thinwire.solve import Outcome, bicgstab

BREAKDOWNS = (Outcome.BREAKDOWN_RHO, Outcome.BREAKDOWN_OMEGA)


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("least_cosine", [0.0, 0.7])
@settings(max_examples=50)
@given(problem=systems)
def test_solves_what_is_positive_definite(problem, least_cosine):
    options = problem.options(iterations=100, tolerance=1e-11, least_cosine=least_cosine)
    found = bicgstab(problem.B.matmul, problem.b, **options)
    assert found.outcome is Outcome.CONVERGED
    torch.testing.assert_close(found.x, problem.solution, rtol=1e-6, atol=1e-6)
    assert all(curvature >= 0 for curvature in found.curvatures)
    assert found.products == 2 * found.iterations + (problem.x0 is not None)
    check_honest(found, problem)


@pytest.mark.parametrize("least_cosine", [0.0, 0.7])
@settings(max_examples=50)
@given(problem=indefinite)
def test_solves_what_is_indefinite(problem, least_cosine):
    options = problem.options(iterations=200, tolerance=1e-9, least_cosine=least_cosine)
    found = bicgstab(problem.B.matmul, problem.b, **options)
    check_honest(found, problem)
    if found.outcome not in BREAKDOWNS:  # rare: test_breakdowns_are_rare
        assert found.outcome is Outcome.CONVERGED
        torch.testing.assert_close(found.x, problem.solution, rtol=1e-5, atol=1e-5)


def test_breakdowns_are_rare():
    outcomes = [
        bicgstab(problem.B.matmul, problem.b, iterations=200, tolerance=1e-9, progress=0.0).outcome
        for problem in (system(seed, 6, 10.0, signs=2) for seed in range(50))
    ]
    assert outcomes.count(Outcome.CONVERGED) >= 48


@given(systems | indefinite)
def test_iterates_are_the_textbooks(problem):
    steps = 1 if len(problem.b) < 4 else 2  # before the residual is rounding alone
    found = bicgstab(problem.B.matmul, problem.b, **problem.options(iterations=steps))
    check_honest(found, problem)
    if found.outcome is not Outcome.ITERATION_LIMIT:
        return
    passed = textbook_bicgstab(problem, steps)
    assert found.iterations == steps
    expected = [curvature for _, *both in passed for curvature in both]
    assert found.curvatures == pytest.approx(expected, rel=1e-6, abs=1e-9)
    for iterate in found.iterates:
        x = passed[iterate.iteration - 1][0]
        torch.testing.assert_close(iterate.x, x, rtol=1e-6, atol=1e-8)


def rotated(diagonal, b, seed=0):
    """The same system in other coordinates, where nothing cancels to the last bit."""
    generator = torch.Generator().manual_seed(seed)
    n = len(b)
    Q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    B = Q @ torch.diag(diagonal) @ Q.T
    return System((B + B.T) / 2, Q @ b)


@pytest.mark.parametrize("seed", [None, *range(8)])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_a_product_orthogonal_to_the_shadow_residual_breaks_down(seed, scale):
    """r.Br = 0 for the first residual."""
    diagonal, b = scale * vector(1, -1, 2), vector(1, 1, 0)
    problem = System(torch.diag(diagonal), b) if seed is None else rotated(diagonal, b, seed)
    found = bicgstab(problem.B.matmul, problem.b)
    assert found.outcome is Outcome.BREAKDOWN_RHO
    assert found.iterations == 0
    assert float(found.x.norm()) == 0
    check_honest(found, problem)


@pytest.mark.parametrize("seed", [None, *range(8)])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_a_vanishing_stabilising_step_breaks_down(seed, scale):
    """alpha = 1/2, s = (-1, -1, 2), s.Bs = 4 + 4 - 8 = 0; the half step is kept."""
    diagonal, b = vector(4, 4, -2), vector(1, 1, 1)
    problem = System(torch.diag(diagonal), b) if seed is None else rotated(diagonal, b, seed)
    problem.B = problem.B * scale
    found = bicgstab(problem.B.matmul, problem.b)
    assert found.outcome is Outcome.BREAKDOWN_OMEGA
    assert found.iterations == 1
    torch.testing.assert_close(found.x, problem.b / 2 / scale)
    assert len(found.curvatures) == 2
    assert abs(found.curvatures[1]) <= 1e-14 * scale * 20
    check_honest(found, problem)


@pytest.mark.parametrize("seed", [None, *range(8)])
def test_no_stabilising_step_vanishes_with_a_least_cosine(seed):
    """The same system; s.Bs = 0, but |cos| counts as 0.7 and the solve goes on to the solution."""
    diagonal, b = vector(4, 4, -2), vector(1, 1, 1)
    problem = System(torch.diag(diagonal), b) if seed is None else rotated(diagonal, b, seed)
    found = bicgstab(problem.B.matmul, problem.b, least_cosine=0.7)
    assert found.outcome is Outcome.CONVERGED
    torch.testing.assert_close(found.x, problem.solution)
    check_honest(found, problem)


@pytest.mark.parametrize("least_cosine", [-0.1, 1.0, math.nan])
def test_a_least_cosine_out_of_range_is_refused(least_cosine):
    with pytest.raises(ValueError, match="least_cosine: expected 0 to below 1, got"):
        bicgstab(torch.eye(2).matmul, torch.ones(2), least_cosine=least_cosine)


def test_a_skew_matrix_breaks_down():
    """v.Bv = 0 for every v: no method of this family can begin."""
    S = matrix([0, 1, 2], [-1, 0, 3], [-2, -3, 0])
    found = bicgstab(S.matmul, vector(1, 2, 4))
    assert found.outcome is Outcome.BREAKDOWN_RHO
    assert found.x.tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("rows", "b", "iterations", "outcome"),
    [
        ([[0, 0, -1], [0, 1, 1], [-1, 1, -1]], [1, 1, 0], 1, Outcome.BREAKDOWN_RHO),
        ([[-1, 1, -1], [1, 1, 1], [-1, 1, -1]], [0, 0, -1], 2, Outcome.BREAKDOWN_RHO),
        (
            [[-1, 0, -1, 0], [0, -1, 0, 1], [-1, 0, 0, 1], [0, 1, 1, 1]],
            [-1, 1, 0, -1],
            2,
            Outcome.BREAKDOWN_OMEGA,
        ),
    ],
)
def test_breakdowns_after_a_while(dtype, rows, b, iterations, outcome):
    B, b = torch.tensor(rows, dtype=dtype), torch.tensor(b, dtype=dtype)
    found = bicgstab(B.matmul, b)
    assert (found.outcome, found.iterations) == (outcome, iterations)
    check_honest(found, System(B, b))


def test_a_half_step_that_solves_the_system_is_no_breakdown():
    problem = System(3 * torch.eye(4, dtype=torch.float64), vector(1, 2, 3, 4))
    found = bicgstab(problem.B.matmul, problem.b)
    assert found.outcome is Outcome.CONVERGED
    assert found.iterations == 1
    torch.testing.assert_close(found.x, problem.b / 3)
    check_honest(found, problem)


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_a_zero_right_hand_side_has_a_zero_solution(seed, n):
    problem = system(seed, n, 10.0)
    found = bicgstab(problem.B.matmul, torch.zeros_like(problem.b))
    assert found.outcome is Outcome.CONVERGED
    assert (found.iterations, found.products) == (0, 0)
    assert float(found.x.norm()) == 0
    assert [iterate.model for iterate in found.iterates] == [0]


def test_stagnates():
    problem = system(1, 120, 1e6)
    found = bicgstab(problem.B.matmul, problem.b, iterations=200, progress=1e-2)
    assert found.outcome is Outcome.STAGNATION
    assert 10 < found.iterations < 200
    check_honest(found, problem)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("after", [0, 1, 2, 5])
@pytest.mark.parametrize("warm", [False, True])
def test_a_product_that_is_not_finite_is_an_outcome(poison, after, warm):
    problem = system(4, 10, 100.0, warm=warm)
    seen = []

    def broken(v):
        seen.append(v)
        return problem.B @ v if len(seen) <= after else torch.full_like(v, poison)

    found = bicgstab(broken, problem.b, x0=problem.x0)
    assert found.outcome is Outcome.NON_FINITE
    assert found.products == len(seen) == after + 1
    assert found.iterations == max(0, after - warm) // 2
    check_honest(found, problem)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_that_overflows_is_not_taken(dtype):
    B = torch.diag(torch.tensor([torch.finfo(dtype).tiny / 16, 1.0], dtype=dtype))
    found = bicgstab(B.matmul, torch.tensor([1.0, 0.0], dtype=dtype))
    assert found.outcome in (Outcome.NON_FINITE, *BREAKDOWNS)
    assert found.x.tolist() == [0, 0]
    assert all(math.isfinite(iterate.model) for iterate in found.iterates)


@settings(max_examples=150)
@given(
    st.integers(1, 5).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(-2, 2), min_size=n * n, max_size=n * n),
            st.lists(st.integers(-2, 2), min_size=n, max_size=n),
        )
    )
)
def test_small_integers_meet_every_degenerate_case_without_nan(numbers):
    values, right = numbers
    n = len(right)
    A = matrix(values).view(n, n)
    problem = System(A + A.T, vector(*right))
    found = bicgstab(problem.B.matmul, problem.b, iterations=12, progress=0.0)
    check_honest(found, problem)
    if found.outcome is Outcome.CONVERGED:
        residual = problem.b - problem.B @ found.x
        assert float(residual.norm()) <= 1e-7 * (1 + float(problem.b.norm()))
