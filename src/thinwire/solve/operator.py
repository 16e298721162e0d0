"""What a solver asks of a matrix."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


@runtime_checkable
class Operator(Protocol):
    """A symmetric matrix B that computes its products and inner products together.

    Where vectors are spread over workers, or each worker holds a summand of B, every inner product
    costs a reduction, unless it rides along in the product's. That is why they are asked for here.
    """

    def product(
        self, v: Tensor, against: Sequence[Tensor] = (), pairs: Sequence[Pair] = ()
    ) -> tuple[Tensor, list[float]]:
        """B v, then (B v) . w for w in ``against``, then a . b for (a, b) in ``pairs``."""
        ...

    def dots(self, pairs: Sequence[Pair]) -> list[float]:
        """A . b for (a, b) in ``pairs``."""
        ...


Matrix = Operator | Callable[[Tensor], Tensor]


def as_operator(B: Matrix) -> Operator:
    """An operator as it is, or one made of a plain function v -> B v."""
    return B if isinstance(B, Operator) else _Function(B)


class _Function:
    """A function v -> B v, with everything in one place."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function

    def product(
        self, v: Tensor, against: Sequence[Tensor] = (), pairs: Sequence[Pair] = ()
    ) -> tuple[Tensor, list[float]]:
        """See ``Operator.product``."""
        Bv = self._function(v)
        return Bv, self.dots([*((Bv, w) for w in against), *pairs])

    def dots(self, pairs: Sequence[Pair]) -> list[float]:
        """See ``Operator.dots``."""
        return [float(torch.dot(a, b)) for a, b in pairs]
