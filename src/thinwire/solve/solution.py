"""What a solver returns: why it stopped, and what it met on its way."""

import math
from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor


class Outcome(Enum):
    """Why a solver stopped, as a message for people."""

    CONVERGED = "converged: the residual is below the tolerance"
    ITERATION_LIMIT = "iteration limit: all iterations that were allowed are done"
    STAGNATION = "stagnation: the quadratic model hardly improves any more"
    NEGATIVE_CURVATURE = "negative curvature: a direction d with d.Bd <= 0 was met"
    BREAKDOWN_RHO = "breakdown: the residual or its product is orthogonal to the shadow residual"
    BREAKDOWN_OMEGA = "breakdown: the stabilising step vanished"
    INDEFINITE = "indefinite preconditioner: a residual r with r.Mr < 0 was met"
    NON_FINITE = "non-finite: a product with the matrix, or a step, holds NaN or infinity"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, eq=False)
class Iterate:
    """A point the solver passed.

    Attributes:
        x: [P].
        model: m(x) = x.Bx / 2 - b.x, the quadratic model's value.
        iteration: after how many iterations.
    """

    x: Tensor
    model: float
    iteration: int


@dataclass(eq=False)
class Solution:
    """The result of a solver.

    Attributes:
        x: [P], the last iterate that is finite.
        outcome: why the solver stopped.
        iterates: the recorded ones, in order; the last one is ``x``, unless not even the model's
            value at the start is finite.
        curvatures: d.Bd of every search direction d, in order; any may be negative.
        iterations: completed iterations.
        products: products with the matrix.
        negative: [P], the direction with d.Bd <= 0 that ended the solver, if one did.
    """

    x: Tensor
    outcome: Outcome = Outcome.ITERATION_LIMIT
    iterates: list[Iterate] = field(default_factory=list)
    curvatures: list[float] = field(default_factory=list)
    iterations: int = 0
    products: int = 0
    negative: Tensor | None = None

    def record(self, x: Tensor, model: float, *, last: bool) -> None:
        """Keep an iterate if the grid ceil(1.3^j) says so (Martens 2010), or as the last one."""
        self.x = x
        wanted = (last and math.isfinite(model)) or on_grid(self.iterations)
        if wanted and not self._recorded():
            self.iterates.append(Iterate(x.clone(), model, self.iterations))

    def _recorded(self) -> bool:
        return bool(self.iterates) and self.iterates[-1].iteration == self.iterations


def on_grid(iteration: int) -> bool:
    """Whether an iteration is among ceil(1.3^j), j = 0, 1, ...

    >>> [i for i in range(16) if on_grid(i)]
    [1, 2, 3, 4, 5, 7, 9, 11, 14]
    """
    if iteration < 1:
        return False
    j = round(math.log(iteration) / math.log(1.3))
    return any(math.ceil(1.3**k) == iteration for k in (j - 1, j, j + 1) if k >= 0)


def stagnates(models: list[float], tolerance: float) -> bool:
    """Martens (2010), section 4.4: little relative progress of the model over k iterations.

    With k = max(10, i / 10): i > k, m_i < 0 and (m_i - m_{i-k}) / m_i < k * tolerance.

    Args:
        models: m after every iteration so far.
        tolerance: progress per iteration, 5e-4 in the paper; 0 never stops.
    """
    i = len(models)
    k = max(10, math.ceil(0.1 * i))
    if not tolerance or i <= k or models[-1] >= 0:
        return False
    return (models[-1] - models[-1 - k]) / models[-1] < k * tolerance
