"""Curvature as a linear operator: products of the Hessian or Gauss-Newton matrix with flat vectors.

The matrix is that of the mean loss over samples that lie sharded over the workers, a sum of one
matrix for each of them; a product is one product with each worker's own summand and one all-reduce.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from thinwire.curvature.flat import FlatModel
from thinwire.curvature.output_hessian import Loss
from thinwire.curvature.probe import check_deterministic
from thinwire.curvature.samples import Batch, Samples
from thinwire.exchange import CodedSum, Ledger, Wire, all_reduce, shared_wire

Pair = tuple[Tensor, Tensor]
STAGE = "curvature products"


class CurvatureOperator:
    """B = C + damping I, for flat vectors of P values that are the same on every worker.

    Args:
        local: v -> this worker's summand of C v.
        wire: the workers.
        damping: lambda.
        coded: sums the products by a code; inner products then take a small reduction of their own.

    Attributes:
        damping: lambda; may be changed at any time.
        products: products so far.
    """

    def __init__(
        self,
        local: Callable[[Tensor], Tensor],
        wire: Wire,
        *,
        damping: float = 0.0,
        coded: CodedSum | None = None,
    ) -> None:
        self._summand, self._wire, self._coded = local, wire, coded
        self.damping = damping
        self.products = 0

    def __matmul__(self, v: Tensor) -> Tensor:
        """C v, [P]: undamped."""
        total, _ = self._sum(v, lambda mine: [])
        return total

    def __call__(self, v: Tensor) -> Tensor:
        """B v = C v + lambda v, [P]."""
        return (self @ v).add(v, alpha=self.damping)

    def product(
        self, v: Tensor, against: Sequence[Tensor] = (), pairs: Sequence[Pair] = ()
    ) -> tuple[Tensor, list[float]]:
        """B v with inner products, all in one reduction.

        Args:
            v: [P].
            against: vectors w, for (B v) . w.
            pairs: vectors a, b, for a . b.

        Returns:
            B v, and the inner products in the order of the arguments. They are sums over workers,
            of each worker's part of C or slice of the vectors, hence the same on every worker to
            the bit, and a branch taken on them is taken by all.
        """
        mine, sums = self._sum(v, lambda mine: self._inner_products(mine, v, against, pairs))
        return mine.add(v, alpha=self.damping), sums

    def dots(self, pairs: Sequence[Pair]) -> list[float]:
        """Inner products of pairs of vectors, the same on every worker; one small reduction."""
        mine = torch.tensor([self._slice_dot(*pair) for pair in pairs], dtype=torch.float64)
        sums: list[float] = self._wire.sum(mine, "inner products").tolist()
        return sums

    def part(self, vector: Tensor) -> Tensor:
        """What the solver holds of a vector on this worker: all of it."""
        return vector

    def whole(self, part: Tensor) -> Tensor:
        """The vector of which the solver holds a part."""
        return part

    def _sum(
        self, v: Tensor, riders: Callable[[Tensor], list[float]]
    ) -> tuple[Tensor, list[float]]:
        """C v, and the sums of what rides along with this worker's summand of it."""
        self.products += 1
        mine = self._summand(v)
        if self._coded is None:
            return all_reduce(mine, riders(mine), self._wire, STAGE)
        scalars = torch.tensor(riders(mine), dtype=torch.float64)
        sums: list[float] = self._wire.sum(scalars, "inner products").tolist()
        return self._coded(mine, STAGE), sums

    def _inner_products(
        self, mine: Tensor, v: Tensor, against: Sequence[Tensor], pairs: Sequence[Pair]
    ) -> list[float]:
        """This worker's summands of (B v) . w and of a . b."""
        with_Bv = [_dot(mine, w) + self.damping * self._slice_dot(v, w) for w in against]
        return with_Bv + [self._slice_dot(*pair) for pair in pairs]

    def _slice_dot(self, a: Tensor, b: Tensor) -> float:
        """The inner product a . b over this worker's slice of the indices."""
        rank, world, size = self._wire.rank, self._wire.world, len(a)
        mine = slice(size * rank // world, size * (rank + 1) // world)
        return _dot(a[mine], b[mine])


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
        wire = shared_wire(process_group, Ledger())
        flat, samples = samples_of(model, loss, batch, wire)
        super().__init__(self._record(samples, flat.read()), wire, damping=damping)
        self._batch_size = len(batch[1])
        self.ledger = wire.ledger

    @property
    def samples(self) -> int:
        """Sample-products computed on this worker so far."""
        return self.products * self._batch_size

    def _record(self, samples: Samples, theta: Tensor) -> Callable[[Tensor], Tensor]:
        raise NotImplementedError


class HessianOperator(_OfBatch):
    """The Hessian H of a model's mean loss, at the model's present parameters.

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
    wire = shared_wire(process_group, Ledger())
    flat, samples = samples_of(model, loss, batch, wire)
    value, summand = samples.gradient(flat.read())
    g, (f,) = all_reduce(summand, [value], wire, "gradient")
    return f, g


def samples_of(model: nn.Module, loss: Loss, batch: Batch, wire: Wire) -> tuple[FlatModel, Samples]:
    """A batch as samples of a model whose forward has been probed; one small reduction."""
    flat = FlatModel(model)
    check_deterministic(flat, *batch)
    own = torch.tensor([len(batch[1])], dtype=torch.float64)
    total = int(wire.sum(own, "inner products"))
    return flat, Samples(flat, loss, [batch] if len(batch[1]) else [], total)


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a, b))
