"""Curvature as a linear operator: products of the Hessian or Gauss-Newton matrix with flat vectors.

The matrix is that of the mean loss over samples that lie sharded over the workers, a sum of one
matrix for each of them; a product is one product with each worker's own summand and one all-reduce.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from thinwire.curvature.cost import Cost
from thinwire.curvature.flat import FlatModel
from thinwire.curvature.host import read
from thinwire.curvature.output_hessian import Loss
from thinwire.curvature.probe import check_deterministic
from thinwire.curvature.samples import Batch, Samples
from thinwire.curvature.workers import Workers
from thinwire.exchange import CodedSum, Ledger
from thinwire.solve.operator import Pair

STAGE = "curvature products"


class CurvatureOperator:
    """B = C + damping I, for flat vectors of P values that are the same on every worker.

    Args:
        local: v -> this worker's summand of C v.
        workers: who holds the summands.
        damping: lambda.
        coded: sums the products by a code; inner products then take a small sum of their own.

    Attributes:
        damping: lambda; may be changed at any time.
        cost: what it took so far.
    """

    def __init__(
        self,
        local: Callable[[Tensor], Tensor],
        workers: Workers,
        *,
        damping: float = 0.0,
        coded: CodedSum | None = None,
    ) -> None:
        self._summand, self._workers, self._coded = local, workers, coded
        self.damping = damping
        self.cost = Cost()

    @property
    def products(self) -> int:
        """Products so far."""
        return self.cost.products

    def __matmul__(self, v: Tensor) -> Tensor:
        """C v, [P]: undamped."""
        Cv, _ = self._sum(self._summand(v), [])
        return Cv

    def __call__(self, v: Tensor) -> Tensor:
        """B v = C v + lambda v, [P]."""
        return (self @ v).add(v, alpha=self.damping)

    def product(
        self, v: Tensor, against: Sequence[Tensor] = (), pairs: Sequence[Pair] = ()
    ) -> tuple[Tensor, list[float]]:
        """B v with inner products, all in one sum over workers; one read on the host before it.

        Args:
            v: [P].
            against: vectors w, for (B v) . w.
            pairs: vectors a, b, for a . b.

        Returns:
            B v, and the inner products in the order of the arguments. They are sums over workers,
            of each worker's part of C or slice of the vectors, hence the same on every worker to
            the bit, and a branch taken on them is taken by all.
        """
        mine = self._summand(v)
        Cv, sums = self._sum(mine, self._inner_products(mine, v, against, pairs))
        return Cv.add(v, alpha=self.damping), sums

    def dots(self, pairs: Sequence[Pair]) -> list[float]:
        """Inner products of pairs of vectors, the same on every worker; one small sum."""
        mine = read([self._slice_dot(a, b) for a, b in pairs])
        return self._sum_numbers(mine)

    def part(self, vector: Tensor) -> Tensor:
        """What the solver holds of a vector on this worker: all of it."""
        return vector

    def whole(self, part: Tensor) -> Tensor:
        """The vector of which the solver holds a part."""
        return part

    def _sum(self, mine: Tensor, riders: Sequence[float]) -> tuple[Tensor, list[float]]:
        """C v from this worker's summand of it, and the sums of what rides along."""
        self.cost += Cost(products=1)
        if self._coded is not None:
            sums = self._sum_numbers(riders)
            coded = self._workers.sum_coded(mine, self._coded, STAGE)
            self.cost += coded.cost
            return coded.result, sums
        exact = self._workers.sum(mine, riders, STAGE)
        self.cost += exact.cost
        return exact.result

    def _sum_numbers(self, own: Sequence[float]) -> list[float]:
        sums = self._workers.sum_numbers(own, "inner products")
        self.cost += sums.cost
        return sums.result

    def _inner_products(
        self, mine: Tensor, v: Tensor, against: Sequence[Tensor], pairs: Sequence[Pair]
    ) -> list[float]:
        """This worker's summands of (B v) . w and of a . b."""
        with_v = [(v, w) for w in against]
        dots = [torch.dot(mine, w) for w in against]
        dots += [self._slice_dot(a, b) for a, b in (*with_v, *pairs)]
        numbers, n = read(dots), len(against)
        damped = [
            c + self.damping * d for c, d in zip(numbers[:n], numbers[n : 2 * n], strict=True)
        ]
        return damped + numbers[2 * n :]

    def _slice_dot(self, a: Tensor, b: Tensor) -> Tensor:
        """The inner product a . b over this worker's slice of the indices."""
        rank, world, size = self._workers.rank, self._workers.world, len(a)
        mine = slice(size * rank // world, size * (rank + 1) // world)
        return torch.dot(a[mine], b[mine])


class _OfBatch(CurvatureOperator):
    """An operator made from a model and a batch."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batch: Batch,
        *,
        damping: float = 0.0,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        workers = Workers(process_group, Ledger())
        flat, samples = samples_of(model, loss, batch, workers)
        super().__init__(self._record(samples, flat.read()), workers, damping=damping)
        self._batch_size = len(batch[1])
        self.ledger = workers.ledger

    @property
    def samples(self) -> int:
        """Sample-products computed on this worker so far."""
        return self.products * self._batch_size

    def _record(self, samples: Samples, theta: Tensor) -> Callable[[Tensor], Tensor]:
        raise NotImplementedError


class HessianOperator(_OfBatch):
    """The Hessian H of a model's mean loss, at the model's present parameters.

    Examples:
        >>> model = nn.Linear(3, 2)
        >>> batch = torch.randn(8, 3), torch.randint(2, (8,))
        >>> H = HessianOperator(model, nn.functional.cross_entropy, batch)
        >>> (H @ torch.ones(8)).shape
        torch.Size([8])

    Args:
        model: its forward must be deterministic and treat samples independently: dropout off, batch
            norm in eval mode. All parameters that require a gradient take part.
        loss: (outputs, targets) -> mean over samples, each with the same weight: large batches are
            split.
        batch: (inputs, targets), this worker's part.
        damping: lambda of ``B(v)`` and ``product``; ``@`` is undamped.
        process_group: the workers that hold the other parts; None is the default group, or this
            process alone. Of a mesh with a dimension of tensor parallelism: the other dimension's.

    Attributes:
        damping: lambda.
        cost: what it took so far.
        products: products so far.
        samples: sample-products on this worker so far.
        ledger: this worker's traffic.

    Raises:
        ValueError: the forward is not deterministic, or mixes samples.
    """

    def _record(self, samples: Samples, theta: Tensor) -> Callable[[Tensor], Tensor]:
        return samples.hessian(theta)


class GaussNewtonOperator(_OfBatch):
    """The generalised Gauss-Newton matrix J' H_L J: positive semi-definite for a convex loss.

    J is the model's Jacobian in the parameters, H_L the loss's Hessian in the outputs. Arguments,
    attributes and errors are ``HessianOperator``'s.
    """

    def _record(self, samples: Samples, theta: Tensor) -> Callable[[Tensor], Tensor]:
        return samples.gauss_newton(theta)


def gradient(
    model: nn.Module,
    loss: Loss,
    batch: Batch,
    *,
    process_group: dist.ProcessGroup | None = None,
) -> tuple[float, Tensor]:
    """The mean loss over all workers' samples and its gradient, in one all-reduce.

    Arguments and errors are ``HessianOperator``'s.

    Returns:
        f and g, [P], at the model's present parameters.
    """
    workers = Workers(process_group, Ledger())
    flat, samples = samples_of(model, loss, batch, workers)
    value, summand = samples.gradient(flat.read())
    g, (f,) = workers.sum(summand, [value], "gradient").result
    return f, g


def samples_of(
    model: nn.Module, loss: Loss, batch: Batch, workers: Workers
) -> tuple[FlatModel, Samples]:
    """A batch as samples of a model whose forward has been probed; one small sum."""
    flat = FlatModel(model)
    check_deterministic(flat, *batch)
    (total,) = workers.sum_numbers([len(batch[1])], "inner products").result
    return flat, Samples(flat, loss, [batch] if len(batch[1]) else [], int(total))
