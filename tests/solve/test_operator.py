"""Inner products that ride along, summed over slices, give what a plain function gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.curvature.cases import case
from tests.solve.systems import system
from thinwire import GaussNewtonOperator, HessianOperator
from thinwire.solve import Operator, as_operator, bicgstab, cg, most_negative


class Workers:
    """B as a sum of three workers' summands; a reduction for each call, as over a wire."""

    def __init__(self, B, seed=0):
        generator = torch.Generator().manual_seed(seed)
        own = torch.randn(2, *B.shape, generator=generator, dtype=B.dtype)
        self.summands = [*own, B - own.sum(0)]
        self.products = self.small = 0

    def product(self, v, against=(), pairs=()):
        self.products += 1
        mine = [summand @ v for summand in self.summands]
        inner = [sum(float(own @ w) for own in mine) for w in against]
        return sum(mine), inner + self._sliced(pairs)

    def dots(self, pairs):
        self.small += 1
        return self._sliced(pairs)

    def _sliced(self, pairs):
        parts = [(a.tensor_split(3), b.tensor_split(3)) for a, b in pairs]
        return [sum(float(x @ y) for x, y in zip(*part, strict=True)) for part in parts]


def check_same(problem, solver):
    options = problem.options(iterations=3)
    plain = solver(problem.B.matmul, problem.b, **options)
    spread = solver(Workers(problem.B), problem.b, **options)
    assert plain.outcome is spread.outcome
    torch.testing.assert_close(spread.x, plain.x, rtol=1e-6, atol=1e-7)
    assert spread.curvatures == pytest.approx(plain.curvatures, rel=1e-6, abs=1e-7)
    models = [[iterate.model for iterate in found.iterates] for found in (plain, spread)]
    assert models[0] == pytest.approx(models[1], rel=1e-6, abs=1e-7)


@settings(max_examples=30)
@given(
    st.integers(0, 2**31),
    st.integers(8, 12),
    st.booleans(),
    st.booleans(),
    st.sampled_from([cg, bicgstab]),
)
def test_solvers_do_not_care_where_sums_are_made(seed, n, warm, preconditioned, solver):
    check_same(system(seed, n, 30.0, warm=warm, preconditioned=preconditioned), solver)


def test_nor_where_curvature_is_negative():
    for solver in (cg, bicgstab):
        check_same(system(0, 9, 10.0, signs=2), solver)


@pytest.mark.parametrize("warm", [False, True])
def test_cg_makes_one_reduction_for_each_iteration(warm):
    problem = system(0, 20, 100.0, warm=warm, preconditioned=True)
    spread = Workers(problem.B)
    found = cg(spread, problem.b, **problem.options(iterations=8))
    assert (spread.products, spread.small) == (8 + warm, 0)
    assert found.products == spread.products


@pytest.mark.parametrize("warm", [False, True])
def test_bicgstab_makes_three(warm):
    problem = system(0, 20, 100.0, warm=warm, preconditioned=True)
    spread = Workers(problem.B)
    found = bicgstab(spread, problem.b, **problem.options(iterations=4))
    assert (spread.products, spread.small) == (8 + warm, 4 + 1)
    assert found.products == spread.products


def test_lanczos_does_not_care_either():
    problem = system(0, 9, 10.0, signs=2)
    plain = most_negative(problem.B.matmul, problem.b, iterations=5)
    spread = most_negative(Workers(problem.B), problem.b, iterations=5)
    assert spread[0] == pytest.approx(plain[0])
    torch.testing.assert_close(spread[1], plain[1])


@pytest.mark.parametrize("kind", [HessianOperator, GaussNewtonOperator])
@pytest.mark.parametrize("solver", [cg, bicgstab])
def test_curvature_operators_solve_as_their_dense_matrix_does(kind, solver):
    module, loss, batch = case("sigmoid", "cross entropy")
    B = kind(module, loss, batch, damping=1.0)
    assert isinstance(B, Operator)
    assert as_operator(B) is B
    dense = torch.stack([B(e) for e in torch.eye(43, dtype=torch.float64)])
    b = torch.linspace(-1, 1, 43, dtype=torch.float64)
    own = solver(B, b, iterations=6, progress=0.0)
    plain = solver(dense.matmul, b, iterations=6, progress=0.0)
    assert own.outcome is plain.outcome
    torch.testing.assert_close(own.x, plain.x)
