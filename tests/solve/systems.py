"""Systems B x = b in float64 and the textbook's methods, the oracles of the solvers' tests."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from thinwire.solve import Outcome, Solution


@dataclass
class System:
    """B x = b, with a preconditioner M (dense) and where to begin."""

    B: Tensor
    b: Tensor
    M: Tensor | None = None
    x0: Tensor | None = None

    @property
    def start(self):
        return torch.zeros_like(self.b) if self.x0 is None else self.x0

    @property
    def precondition(self):
        return None if self.M is None else lambda r: self.M @ r

    @property
    def solution(self):
        return torch.linalg.solve(self.B, self.b)

    def model(self, x):
        x, B, b = x.double(), self.B.double(), self.b.double()
        return float(x @ B @ x / 2 - b @ x)

    def options(self, **changed):
        return {"x0": self.x0, "preconditioner": self.precondition, "progress": 0.0, **changed}


def system(seed, n, condition, *, signs=1, warm=False, preconditioned=False):
    """Eigenvalues spread evenly over the decades; ``signs`` = 2: every other one is negative."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    eigenvalues = torch.logspace(0, torch.tensor(condition).log10(), n, dtype=torch.float64)
    eigenvalues[1::2] *= -1 if signs == 2 else 1
    Q = torch.linalg.qr(randn(n, n)).Q
    B = Q @ torch.diag(eigenvalues) @ Q.T
    M = None
    if preconditioned:  # near |B|^-1, not diagonal
        U = torch.linalg.qr(Q + 0.1 * randn(n, n)).Q
        M = U @ torch.diag(1 / eigenvalues.abs()) @ U.T
        M = (M + M.T) / 2
    return System((B + B.T) / 2, randn(n), M, randn(n) if warm else None)


systems = st.builds(
    system,
    st.integers(0, 2**31),
    st.integers(1, 12),
    st.sampled_from([1.0, 3.0, 30.0, 300.0]),
    warm=st.booleans(),
    preconditioned=st.booleans(),
)
indefinite = st.builds(
    system,
    st.integers(0, 2**31),
    st.integers(2, 8),
    st.sampled_from([1.5, 3.0, 30.0]),
    signs=st.just(2),
    warm=st.booleans(),
    preconditioned=st.booleans(),
)


def textbook_cg(given: System, iterations):
    """Hestenes and Stiefel (1952), preconditioned. Returns [(x_i, p_i.Bp_i)], i = 1, 2, ..."""
    B, M = given.B, torch.eye(len(given.b)).to(given.b) if given.M is None else given.M
    x, passed = given.start, []
    r = given.b - B @ x
    p = z = M @ r
    for _ in range(iterations):
        pBp = p @ B @ p
        alpha = (r @ z) / pBp
        x, r, old = x + alpha * p, r - alpha * B @ p, r @ z
        z = M @ r
        p = z + (r @ z) / old * p
        passed.append((x, float(pBp)))
    return passed


def textbook_bicgstab(given: System, iterations):
    """Van der Vorst (1992), preconditioned on the right. Returns [(x_i, y.By, z.Bz)]."""
    B, M = given.B, torch.eye(len(given.b)).to(given.b) if given.M is None else given.M
    x, passed = given.start, []
    r = p = shadow = given.b - B @ x
    for _ in range(iterations):
        y = M @ p
        v = B @ y
        alpha = (r @ shadow) / (v @ shadow)
        s = r - alpha * v
        z = M @ s
        t = B @ z
        omega = (t @ s) / (t @ t)
        x, r_old, r = x + alpha * y + omega * z, r, s - omega * t
        beta = (r @ shadow) / (r_old @ shadow) * alpha / omega
        p = r + beta * (p - omega * v)
        passed.append((x, float(y @ v), float(z @ t)))
    return passed


def check_honest(found: Solution, given: System) -> None:
    """What every solution promises, whatever the outcome."""
    assert isinstance(found.outcome, Outcome)
    assert found.x.isfinite().all()
    numbers = [iterate.iteration for iterate in found.iterates]
    assert numbers == sorted(set(numbers))
    rounding = 10 * torch.finfo(given.b.dtype).eps ** 0.5
    for iterate in found.iterates:
        assert iterate.x.isfinite().all()
        model = given.model(iterate.x)
        scale = float(iterate.x.norm() ** 2 * given.B.norm() + (given.b @ iterate.x).abs())
        assert abs(iterate.model - model) <= rounding * (scale + abs(given.model(given.start)))
    if found.iterates:
        assert found.iterates[-1].x.equal(found.x)
        assert numbers[-1] == found.iterations
    assert all(torch.tensor(found.curvatures, dtype=torch.float64).isfinite())
