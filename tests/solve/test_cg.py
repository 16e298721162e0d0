"""Conjugate gradients against the textbook's and against dense solutions, in float64."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.solve.systems import System, check_honest, indefinite, system, systems, textbook_cg
from thinwire.solve import Outcome, cg
from thinwire.solve.solution import on_grid, stagnates


@given(systems)
def test_solves_what_is_positive_definite(problem):
    found = cg(problem.B.matmul, problem.b, **problem.options(iterations=60, tolerance=1e-12))
    assert found.outcome is Outcome.CONVERGED
    torch.testing.assert_close(found.x, problem.solution, rtol=1e-7, atol=1e-8)
    assert all(curvature > 0 for curvature in found.curvatures)
    assert found.negative is None
    assert found.products == found.iterations + 1 + (problem.x0 is not None)
    check_honest(found, problem)


@given(systems)
def test_iterates_are_the_textbooks(problem):
    n = len(problem.b)
    steps = max(1, min(n, 6) - 1)  # before the residual is rounding alone
    passed = textbook_cg(problem, steps)
    found = cg(problem.B.matmul, problem.b, **problem.options(iterations=steps, tolerance=0.0))
    # a system whose eigenvalues are all equal is solved to the last bit before the limit
    assert found.outcome in (Outcome.ITERATION_LIMIT, Outcome.CONVERGED)
    assert found.iterations == steps or found.outcome is Outcome.CONVERGED
    expected = [pBp for _, pBp in passed[: found.iterations]]
    assert found.curvatures == pytest.approx(expected, rel=1e-6)
    for iterate in found.iterates:
        x, _ = passed[iterate.iteration - 1]
        torch.testing.assert_close(iterate.x, x, rtol=1e-7, atol=1e-9)
    check_honest(found, problem)


@given(systems)
def test_the_model_never_rises(problem):
    found = cg(problem.B.matmul, problem.b, **problem.options(iterations=20, tolerance=1e-6))
    models = [problem.model(problem.start), *(iterate.model for iterate in found.iterates)]
    slack = 1e-12 * (1 + max(map(abs, models)))
    assert all(later <= earlier + slack for earlier, later in pairwise(models))


def test_recorded_iterations_are_powers_of_1_3_rounded_up():
    problem = system(0, 200, 1e4)
    found = cg(problem.B.matmul, problem.b, iterations=53, tolerance=0.0, progress=0.0)
    grid = sorted({math.ceil(Fraction(13, 10) ** j) for j in range(20)})
    expected = [i for i in grid if i <= 53]
    assert [iterate.iteration for iterate in found.iterates] == [*expected, 53]
    assert [i for i in range(2000) if on_grid(i)] == [
        i for i in sorted({math.ceil(Fraction(13, 10) ** j) for j in range(40)}) if i < 2000
    ]


@given(indefinite)
def test_stops_at_negative_curvature_and_hands_out_the_direction(problem):
    found = cg(problem.B.matmul, problem.b, **problem.options(iterations=40, tolerance=1e-12))
    check_honest(found, problem)
    if found.outcome is Outcome.CONVERGED:  # never met it, which is the solution all the same
        torch.testing.assert_close(found.x, problem.solution, rtol=1e-5, atol=1e-6)
        return
    assert found.outcome is Outcome.NEGATIVE_CURVATURE
    d = found.negative
    assert found.curvatures[-1] == pytest.approx(float(d @ problem.B @ d), rel=1e-6, abs=1e-9)
    assert found.curvatures[-1] <= 0
    assert all(curvature > 0 for curvature in found.curvatures[:-1])
    assert found.iterations == len(found.curvatures) - 1


def test_negative_curvature_at_once_leaves_the_start():
    B, b = torch.diag(torch.tensor([-2.0, -1.0])).double(), torch.ones(2).double()
    for x0 in (None, torch.tensor([3.0, 4.0]).double()):
        found = cg(B.matmul, b, x0=x0)
        assert found.outcome is Outcome.NEGATIVE_CURVATURE
        assert found.iterations == 0
        assert found.x.equal(torch.zeros(2).double() if x0 is None else x0)
        check_honest(found, System(B, b, x0=x0))


def test_a_direction_of_no_curvature_counts_as_negative():
    B = torch.diag(torch.tensor([1.0, 0.0])).double()
    found = cg(B.matmul, torch.tensor([0.0, 1.0]).double())
    assert found.outcome is Outcome.NEGATIVE_CURVATURE
    assert found.curvatures == [0.0]
    assert found.negative.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("tolerance", [5e-4, 5e-3])
def test_stagnation_is_martens_rule(tolerance):
    problem = system(1, 120, 300.0)
    models = [problem.model(x) for x, _ in textbook_cg(problem, 120)]

    def stalls(i):
        k = max(10, math.ceil(i / 10))
        m = [0.0, *models]
        return i > k and m[i] < 0 and (m[i] - m[i - k]) / m[i] < k * tolerance

    expected = next(i for i in range(1, 121) if stalls(i))
    found = cg(problem.B.matmul, problem.b, iterations=120, progress=tolerance)
    assert found.outcome is Outcome.STAGNATION
    assert found.iterations == expected > 10
    never = cg(problem.B.matmul, problem.b, iterations=120, progress=0.0)
    assert never.outcome is Outcome.ITERATION_LIMIT


def test_a_model_above_zero_does_not_stagnate():
    assert not stagnates([1.0] * 30, 5e-4)
    assert stagnates([-1.0] * 12, 5e-4)
    assert not stagnates([-1.0] * 10, 5e-4)


@given(st.integers(0, 2**31), st.integers(1, 6), st.booleans())
def test_a_zero_right_hand_side_has_a_zero_solution(seed, n, warm):
    problem = system(seed, n, 10.0, warm=warm)
    problem.b = torch.zeros(n, dtype=torch.float64)
    found = cg(problem.B.matmul, problem.b, **problem.options())
    assert float(found.x.norm()) <= 1e-12
    if not warm:
        assert found.outcome is Outcome.CONVERGED
        assert found.iterations == 0
    check_honest(found, problem)


def test_a_warm_start_at_the_solution_stays_there():
    problem = system(3, 8, 10.0)
    found = cg(problem.B.matmul, problem.b, x0=problem.solution)
    assert found.outcome is Outcome.CONVERGED
    assert found.iterations == 0
    assert found.iterates[-1].model == pytest.approx(problem.model(problem.solution))


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("warm", [False, True])
def test_a_product_that_is_not_finite_is_an_outcome(poison, after, warm):
    problem = system(4, 10, 100.0, warm=warm)
    seen = []

    def broken(v):
        seen.append(v)
        return problem.B @ v if len(seen) <= after else torch.full_like(v, poison)

    found = cg(broken, problem.b, x0=problem.x0)
    assert found.outcome is Outcome.NON_FINITE
    assert found.products == len(seen) == after + 1
    assert found.iterations == max(0, after - warm)
    check_honest(found, problem)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_that_overflows_is_not_taken(dtype):
    tiny = torch.finfo(dtype).tiny
    problem = System(
        torch.diag(torch.tensor([tiny / 16, 1.0], dtype=dtype)), torch.ones(2).to(dtype)
    )
    problem.b[1] = 0
    found = cg(problem.B.matmul, problem.b)
    assert found.outcome is Outcome.NON_FINITE
    assert found.x.tolist() == [0.0, 0.0]
    assert all(math.isfinite(iterate.model) for iterate in found.iterates)


def test_a_preconditioner_that_is_not_positive_definite_is_an_outcome():
    problem = system(5, 6, 10.0)
    found = cg(problem.B.matmul, problem.b, preconditioner=lambda r: -r)
    assert found.outcome is not Outcome.CONVERGED
    assert found.x.equal(torch.zeros_like(problem.b))


@settings(max_examples=150)
@given(
    st.integers(1, 4).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(-2, 2), min_size=n * n, max_size=n * n),
            st.lists(st.integers(-2, 2), min_size=n, max_size=n),
        )
    )
)
def test_small_integers_meet_every_degenerate_case_without_nan(numbers):
    values, right = numbers
    n = len(right)
    A = torch.tensor(values, dtype=torch.float64).view(n, n)
    problem = System(A + A.T, torch.tensor(right, dtype=torch.float64))
    found = cg(problem.B.matmul, problem.b, iterations=12)
    check_honest(found, problem)
    if found.outcome is Outcome.CONVERGED:
        residual = problem.b - problem.B @ found.x
        assert float(residual.norm()) <= 1e-8 * (1 + float(problem.b.norm()))


def test_vectors_given_are_left_as_they_are():
    problem = system(6, 6, 10.0, warm=True, preconditioned=True)
    b, x0 = problem.b.clone(), problem.x0.clone()
    cg(problem.B.matmul, problem.b, **problem.options())
    assert b.equal(problem.b)
    assert x0.equal(problem.x0)
