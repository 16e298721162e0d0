"""The same operator for vectors that are spread over the workers: each holds 1/W of every one.

For models whose Krylov vectors would not fit otherwise. A product gathers the vector and scatters
the result's sum: as many bytes as one all-reduce, in two collectives, and its inner products take a
small third.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from thinwire.curvature.cost import Cost
from thinwire.curvature.host import read
from thinwire.curvature.workers import Workers
from thinwire.solve.operator import Pair

STAGE = "curvature products"


class StripedOperator:
    """B = C + damping I, for this worker's stripes of vectors of P values.

    Args:
        local: v -> this worker's summand of C v, both whole.
        workers: who holds the stripes.
        size: P.
        damping: lambda.

    Attributes:
        damping: lambda.
        cost: what it took so far.
    """

    def __init__(
        self, local: Callable[[Tensor], Tensor], workers: Workers, size: int, *, damping: float
    ) -> None:
        self._summand, self._workers = local, workers
        self._cuts = [size * k // workers.world for k in range(workers.world + 1)]
        self._lengths = [b - a for a, b in pairwise(self._cuts)]
        self.damping = damping
        self.cost = Cost()

    def part(self, vector: Tensor) -> Tensor:
        """This worker's stripe of a whole vector."""
        first, last = self._cuts[self._workers.rank : self._workers.rank + 2]
        return vector[first:last].clone()

    def whole(self, stripe: Tensor) -> Tensor:
        """All workers' stripes, end to end."""
        padding = stripe.new_zeros(max(self._lengths) - len(stripe))
        gathered = self._workers.gather(torch.cat([stripe, padding]), STAGE)
        self.cost += gathered.cost
        return torch.cat([s[:n] for s, n in zip(gathered.result, self._lengths, strict=True)])

    def product(
        self, v: Tensor, against: Sequence[Tensor] = (), pairs: Sequence[Pair] = ()
    ) -> tuple[Tensor, list[float]]:
        """B v with inner products; see ``CurvatureOperator.product``. All vectors are stripes."""
        mine = self._summand(self.whole(v))
        runs = [mine[a:b] for a, b in pairwise(self._cuts)]
        received = self._workers.swap(runs, [len(v)] * self._workers.world, STAGE)
        total = torch.stack(received.result).sum(0)  # in rank order
        total.add_(v, alpha=self.damping)
        self.cost += Cost(products=1) + received.cost
        return total, self.dots([*((total, w) for w in against), *pairs])

    def dots(self, pairs: Sequence[Pair]) -> list[float]:
        """Inner products a . b of whole vectors from their stripes; one read, one small sum."""
        mine = read([torch.dot(a, b) for a, b in pairs])
        sums = self._workers.sum_numbers(mine, "inner products")
        self.cost += sums.cost
        return sums.result
