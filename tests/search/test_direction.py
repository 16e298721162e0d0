"""Iterates become directions of descent with the right quadratic model along them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.solve.systems import system
from thinwire.search import turned
from thinwire.solve import Iterate, bicgstab


def known(points, models, g):
    """What the solver and one small reduction tell of each iterate."""
    iterates = [Iterate(x, m, i) for i, (x, m) in enumerate(zip(points, models, strict=True))]
    return [(iterate, float(g @ iterate.x), float(iterate.x @ iterate.x)) for iterate in iterates]


@given(
    st.integers(0, 2**31), st.integers(1, 8), st.sampled_from([1, 2]), st.sampled_from([0.01, 2.0])
)
def test_none_goes_uphill_and_the_model_is_the_quadratics(seed, n, signs, damping):
    given_ = system(seed, n, 30.0, signs=signs)
    C, g = given_.B, given_.b
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(6, n, generator=generator, dtype=torch.float64)
    B = C + damping * torch.eye(n, dtype=torch.float64)
    models = [float(g @ x + x @ B @ x / 2) for x in points]
    found = turned(known(points, models, g), damping=damping, gradient_square=float(g @ g))
    assert len(found) == 6
    for x, direction in zip(points, found, strict=True):
        d = direction.d
        assert d.equal(x) or d.equal(-x)
        assert direction.slope <= 0
        assert direction.slope == pytest.approx(float(g @ d))
        assert direction.square == pytest.approx(float(d @ d))
        assert direction.curvature == pytest.approx(float(d @ C @ d), rel=1e-9, abs=1e-9)
        newton = direction.curvature > 0
        assert direction.kind == ("newton" if newton else "negative curvature")
        for alpha in (0.3, 1.0):
            expected = float(alpha * g @ d + alpha**2 * d @ B @ d / 2)
            assert direction.model(alpha) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.integers(0, 2**31))
def test_the_solvers_own_iterates_become_descent(seed):
    given_ = system(seed, 6, 30.0, signs=2)
    C, g = given_.B, given_.b
    B = C + 0.1 * torch.eye(6, dtype=torch.float64)
    solution = bicgstab(B.matmul, -g, iterations=3)
    pairs = [(it, float(g @ it.x), float(it.x @ it.x)) for it in solution.iterates]
    for direction in turned(pairs, damping=0.1, gradient_square=float(g @ g)):
        step = 1e-6 / direction.square**0.5  # f falls along it, for f(d) = g.d + d.Cd / 2
        d = step * direction.d
        assert float(g @ d + d @ C @ d / 2) <= 0
        size = float(direction.square * C.norm())
        assert direction.curvature == pytest.approx(
            float(direction.d @ C @ direction.d), rel=1e-6, abs=1e-8 * size
        )


def test_the_papers_sign_rule():
    """d~ = -sgn(g.d) d with sgn(0) = +1."""
    g = torch.tensor([1.0, 0.0])
    points = [torch.tensor(p) for p in ([2.0, 0.0], [-2.0, 0.0], [0.0, 1.0])]
    models = [float(g @ x) - 0.5 for x in points]  # curvature -1 each
    found = turned(known(points, models, g), damping=0.0, gradient_square=1.0)
    assert [direction.d.tolist() for direction in found] == [[-2, 0], [-2, 0], [0, -1]]
    assert [direction.kind for direction in found] == ["negative curvature"] * 3


def test_level_directions_are_kept_only_for_their_negative_curvature():
    g = torch.tensor([1.0, 0.0])
    level, zero = torch.tensor([1e-12, 1.0]), torch.zeros(2)
    for curvature, kept in ((1.0, 0), (0.0, 0), (-1.0, 1)):
        models = [float(g @ level) + curvature / 2, 0.0]
        found = turned(known([level, zero], models, g), damping=0.0, gradient_square=1.0)
        assert len(found) == kept
    # At a stationary point every direction is level.
    found = turned(known([level], [0.5], 0 * g), damping=0.0, gradient_square=0.0)
    assert all(direction.slope == 0 for direction in found)


def test_damping_is_not_part_of_the_curvature_that_tells_kinds_apart():
    """d.Bd > 0 by its damping alone: C is what decides."""
    g, x = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0])
    damped = known([x], [float(g @ x) + 0.5 * (2.0 - 0.5)], g)  # C = -1/2, lambda = 2
    (direction,) = turned(damped, damping=2.0, gradient_square=1.0)
    assert direction.kind == "negative curvature"
    assert direction.curvature == pytest.approx(-0.5)
    assert direction.numbers == (-1.0, pytest.approx(-0.5), 1.0, 2.0)
