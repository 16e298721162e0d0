"""What is minimised, as one worker sees it: an objective's samples, or a closure's minibatch."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from thinwire.curvature import Cost, Evaluation, FisherKind, FlatParameters


class Summands(Protocol):
    """A worker's summands of means over samples; see ``thinwire.curvature.Samples``."""

    def gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        """Of the loss and its gradient."""
        ...

    def losses(self, thetas: Sequence[Tensor]) -> list[float]:
        """Of the loss at several points."""
        ...

    def fisher(self, theta: Tensor, kind: FisherKind) -> Tensor:
        """Of the empirical Fisher matrix."""
        ...

    def hessian(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """Of the Hessian's products."""
        ...

    def gauss_newton(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """Of the Gauss-Newton matrix's products."""
        ...


class Problem(Protocol):
    """What is minimised.

    Attributes:
        total: n, samples over all workers.
        lasting: the next iteration minimises the same function.
        cost: what it took to find out n.
    """

    total: int
    lasting: bool
    cost: Cost

    @property
    def model(self) -> FlatParameters:
        """The parameters."""
        ...

    def full(self) -> Summands:
        """This worker's share of all samples."""
        ...

    def batch(self, numbers: Tensor, *, replicated: bool) -> Evaluation[Summands]:
        """This worker's part of the samples of these numbers, or all of them."""
        ...
