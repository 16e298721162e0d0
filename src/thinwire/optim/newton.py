"""One Hessian-free iteration as functions: evaluate, solve, choose, search (H Algorithm 2).

Every scalar on which a branch is taken is a sum over workers, or is computed alike by all from a
replicated batch and proven alike by ``Team.evaluate``: workers cannot part ways.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from thinwire.curvature import CurvatureOperator, FlatParameters
from thinwire.exchange import Wire, all_reduce
from thinwire.search import Direction, largest_sufficient, lowest_sufficient, sufficient, turned
from thinwire.solve import Outcome, Preconditioner, Solution, bicgstab, cg, most_negative

Method = Literal["gauss-newton", "bicgstab", "hybrid", "cg"]
Matrix = Literal["gauss-newton", "hessian"]

SHORTER = tuple(0.5**j for j in range(1, 9))  # trial steps after alpha = 1 failed, in one sweep
EITHER_WAY = tuple(2.0**j for j in range(-6, 5))  # along negative curvature, which has no length


class Sums(Protocol):
    """A worker's summands of means over samples; see ``thinwire.curvature.Samples``."""

    total: int

    def gradient(self, theta: Tensor) -> tuple[float, Tensor]: ...
    def losses(self, thetas: Sequence[Tensor]) -> list[float]: ...
    def squared_gradients(self, theta: Tensor) -> Tensor: ...
    def hessian(self, theta: Tensor) -> Callable[[Tensor], Tensor]: ...
    def gauss_newton(self, theta: Tensor) -> Callable[[Tensor], Tensor]: ...


@dataclass
class Point:
    """What is known at theta.

    Attributes:
        theta: [P].
        loss: f over all samples.
        gradient: g over all samples, [P].
        diagonal: mean squared per-sample gradient over the curvature batch, [P], if it rode along.
    """

    theta: Tensor
    loss: float
    gradient: Tensor
    diagonal: Tensor | None = None
