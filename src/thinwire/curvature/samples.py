"""One worker's part of a set of samples, and what is summed over it at any theta."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from thinwire.curvature.fisher import fisher_size, kronecker_factors, squared_gradients
from thinwire.curvature.flat import FlatModel, twice_differentiable
from thinwire.curvature.host import added, read
from thinwire.curvature.output_hessian import Loss, output_hessian
from thinwire.curvature.products import LocalProduct, gauss_newton_product, hessian_product

AT_ONCE = 1024  # samples in one retained graph: products are faster while they fit the cache

FisherKind = Literal["diagonal", "kronecker"]

Batch = tuple[Any, Tensor]
"""Inputs (what the model takes) and targets [n, ...] (what the loss takes beside outputs)."""


class Samples:
    """This worker's summands of means over all workers' samples.

    The mean loss over n samples is f(theta) = sum_k (n_k / n) f_k(theta), and gradient, Hessian and
    Gauss-Newton matrix are sums of the same kind; what is computed here are summands of them, chunk
    by chunk, so that only one chunk's activations are held (the graphs of a curvature batch: of all
    its chunks).

    Args:
        model: as a function of theta.
        loss: a mean over samples.
        chunks: this worker's samples; iterated anew for each sum.
        total: n, samples over all workers; or the sum of their weights (``weighted_loss``).
    """

    def __init__(self, model: FlatModel, loss: Loss, chunks: Iterable[Batch], total: float) -> None:
        self.model, self._loss, self._chunks, self.total = model, loss, chunks, total

    @torch.enable_grad()
    def gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        """Summands of f and of its gradient, [P]; one read on the host."""
        losses, gradient = list[Tensor](), None
        leaves = self.model.leaves(theta)
        for inputs, targets in self._chunks:
            loss = self._weighted(leaves, inputs, targets)
            parts = torch.autograd.grad(loss, leaves, materialize_grads=True)
            gradient = self._add(parts, gradient)
            losses.append(loss.detach())
        return added(read(losses)), torch.zeros_like(theta) if gradient is None else gradient

    def losses(self, thetas: Sequence[Tensor]) -> list[float]:
        """Summands of f at several points, in one sweep over the samples; one read on the host."""
        points = [self.model.pieces(theta) for theta in thetas]
        with torch.no_grad():
            losses = [
                self._weighted(point, inputs, targets)
                for inputs, targets in self._chunks
                for point in points
            ]
        numbers = read(losses)
        return [added(numbers[i :: len(points)]) for i in range(len(points))]

    def fisher(self, theta: Tensor, kind: FisherKind) -> Tensor:
        """Summand of the empirical Fisher matrix, as ``curvature.fisher`` lays it out: [F]."""
        of_batch = squared_gradients if kind == "diagonal" else kronecker_factors
        summands = [
            of_batch(self.model, self._loss, theta, inputs, targets)
            for inputs, targets in self._chunks
        ]
        if not summands:
            return theta.new_zeros(fisher_size(self.model, kind))
        return torch.stack(summands).sum(0).div_(self.total)

    def hessian(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """The product v -> summand of H v; the graphs are recorded now."""
        return self._product(list(self._hessians(self.model.leaves(theta))))

    def gauss_newton(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """The product v -> summand of G v; the graphs are recorded now."""
        return self._product(list(self._gauss_newtons(self.model.leaves(theta))))

    def _hessians(self, leaves: Sequence[Tensor]) -> Iterator[LocalProduct]:
        for inputs, targets in self._graphs():
            with torch.enable_grad():
                yield hessian_product(self._weighted(leaves, inputs, targets), leaves)

    def _gauss_newtons(self, leaves: Sequence[Tensor]) -> Iterator[LocalProduct]:
        for inputs, targets in self._graphs():
            with torch.enable_grad():
                outputs = self.model.outputs(leaves, inputs)
                curvature = output_hessian(
                    self._loss, outputs, targets, weight=len(targets) / self.total
                )
                if outputs.grad_fn is not None:
                    yield gauss_newton_product(outputs, curvature, leaves)

    def _graphs(self) -> Iterator[Batch]:
        """The chunks, none larger than AT_ONCE if it can be split."""
        for inputs, targets in self._chunks:
            if isinstance(inputs, Tensor) and len(inputs) == len(targets) > 0:
                yield from zip(inputs.split(AT_ONCE), targets.split(AT_ONCE), strict=True)
            else:
                yield inputs, targets

    def _product(self, products: Sequence[LocalProduct]) -> Callable[[Tensor], Tensor]:
        def product(v: Tensor) -> Tensor:
            pieces, total = self.model.pieces(v), None
            with twice_differentiable():
                for part in products:
                    total = self._add(part(pieces), total)
            return torch.zeros_like(v) if total is None else total

        return product

    def _add(self, parts: Sequence[Tensor], total: Tensor | None) -> Tensor:
        """Parts of one chunk, added to the total of those before it."""
        if total is None:
            return self.model.flatten_gradients(parts)
        for sum_, part in zip(self.model.pieces(total), parts, strict=True):
            sum_.add_(part)
        return total

    def _weighted(self, pieces: Sequence[Tensor], inputs: Any, targets: Tensor) -> Tensor:
        """(n_k / n) times the mean loss of one chunk."""
        loss = self._loss(self.model.outputs(pieces, inputs), targets)
        return loss * (len(targets) / self.total)
