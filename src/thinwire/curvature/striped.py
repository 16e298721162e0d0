"""The same operator for vectors that are spread over the workers: each holds 1/W of every one.

For models whose Krylov vectors would not fit otherwise. A product gathers the vector and scatters
the result's sum: as many bytes as one all-reduce, in two collectives, and its inner products take a
small third.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thinwire.curvature.operator import Pair
from thinwire.exchange import Wire


class StripedOperator:
    """B = C + damping I, for this worker's stripes of vectors of P values.

    Args:
        local: v -> this worker's summand of C v, both whole.
        wire: the workers.
        size: P.
        damping: lambda.

    Attributes:
        damping: lambda.
        products: products so far.
    """

    def __init__(
        self, local: Callable[[Tensor], Tensor], wire: Wire, size: int, *, damping: float
    ) -> None:
        self._local, self._wire = local, wire
        self._cuts = [size * k // wire.world for k in range(wire.world + 1)]
        self._longest = max(b - a for a, b in zip(self._cuts, self._cuts[1:], strict=False))
        self.damping = damping
        self.products = 0

    def part(self, vector: Tensor) -> Tensor:
        """This worker's stripe of a whole vector."""
        return vector[self._cuts[self._wire.rank] : self._cuts[self._wire.rank + 1]].clone()

    def whole(self, stripe: Tensor) -> Tensor:
        """All workers' stripes, end to end."""
        padded = torch.cat([stripe, stripe.new_zeros(self._longest - len(stripe))])
        stripes = self._wire.all_gather(padded, "curvature products")
        lengths = [b - a for a, b in zip(self._cuts, self._cuts[1:], strict=False)]
        return torch.cat([s[:n] for s, n in zip(stripes, lengths, strict=True)])

    def product(
        self, v: Tensor, against: Sequence[Tensor] = (), pairs: Sequence[Pair] = ()
    ) -> tuple[Tensor, list[float]]:
        """B v with inner products; see ``CurvatureOperator.product``. All vectors are stripes."""
        self.products += 1
        mine = self._local(self.whole(v))
        runs = [mine[a:b] for a, b in zip(self._cuts, self._cuts[1:], strict=False)]
        received = self._wire.exchange(runs, [len(v)] * self._wire.world, "curvature products")
        total = torch.stack(received).sum(0).add_(v, alpha=self.damping)  # in rank order
        return total, self.dots([*((total, w) for w in against), *pairs])

    def dots(self, pairs: Sequence[Pair]) -> list[float]:
        """Inner products a . b of whole vectors from their stripes; one small reduction."""
        mine = torch.tensor([float(torch.dot(a, b)) for a, b in pairs], dtype=torch.float64)
        sums: list[float] = self._wire.sum(mine, "inner products").tolist()
        return sums
