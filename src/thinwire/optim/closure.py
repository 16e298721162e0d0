"""HessianFree in a loop of one's own: a closure in place of an ``Objective``."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from thinwire.curvature import (
    Evaluation,
    FisherKind,
    FlatParameters,
    Workers,
    by_differentiation,
    check_outputs,
    gauss_newton_product,
    hessian_product,
    read,
    twice_differentiable,
)

Closure = Callable[[], tuple[Tensor | tuple[Tensor, Any], Tensor]]
"""() -> (mean loss, outputs [n, ...]) of this worker's minibatch, at the present parameters.

In place of the mean loss there may be a pair (sum over samples, their weight).
"""


class ClosureProblem:
    """The loss of one minibatch, which serves for gradient, curvature and trials alike.

    Trial points are written into the parameters while the closure runs, and taken out again.

    Args:
        closure: called several times for each step; at the same parameters it must return the same.
        model: the optimiser's parameters.
        workers: who has a minibatch; one small sum.

    Attributes:
        model: as given.
        total: samples in all workers' minibatches, as the outputs' first dimension has it.
        cost: what it took to count them.
        lasting: False: the next step brings another minibatch.

    Raises:
        TypeError: the closure does not return a loss and outputs, one tensor.
        ValueError: from ``hessian`` and ``gauss_newton``, it returns another loss than before at
            the same parameters.
    """

    lasting = False

    def __init__(self, closure: Closure, model: FlatParameters, workers: Workers) -> None:
        self.model, self._closure = model, closure
        with torch.no_grad():
            returned = closure()
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(
                f"closure: expected it to return (loss, outputs), got {type(returned).__name__}"
            )
        loss, outputs = returned
        check_outputs(outputs, "closure")
        weighted = isinstance(loss, tuple)
        weight = float(loss[1]) if weighted else len(outputs)
        counted = workers.sum_numbers([len(outputs), weight], "sample counts")
        self.total, self.cost = int(counted.result[0]), counted.cost
        if not self.total:
            raise ValueError("closure: expected outputs of at least one sample on some worker")
        if not counted.result[1] > 0:
            raise ValueError(f"closure: expected weights > 0 in all, got {counted.result[1]:g}")
        self._known: tuple[Tensor, float] | None = None  # theta, and this worker's summand there
        self._share = (bool(weight) if weighted else weight) / counted.result[1]

    def full(self) -> "ClosureProblem":
        """The minibatch."""
        return self

    def batch(self, numbers: Tensor, *, replicated: bool) -> Evaluation["ClosureProblem"]:
        """The minibatch again, whatever the numbers."""
        return Evaluation(self)

    def gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        """See ``thinwire.curvature.Samples``."""
        if not self._share:  # no samples, whose mean would be NaN
            return 0.0, torch.zeros_like(theta)
        with self._at(theta), torch.enable_grad():
            loss, _ = self._call()
            parts = torch.autograd.grad(loss, self.model.parameters, materialize_grads=True)
        self._known = theta.clone(), float(loss.detach())
        return self._known[1], self.model.flatten_gradients(parts)

    def losses(self, thetas: Sequence[Tensor]) -> list[float]:
        """See ``thinwire.curvature.Samples``."""
        if not self._share:
            return [0.0] * len(thetas)
        losses = list[Tensor]()
        for theta in thetas:
            with self._at(theta), torch.no_grad():
                losses.append(self._call()[0])
        return read(losses)

    def fisher(self, theta: Tensor, kind: FisherKind) -> Tensor:
        """Not to be had from a closure, which does not give the samples' own gradients."""
        raise NotImplementedError

    def hessian(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """See ``thinwire.curvature.Samples``; theta is the present one."""
        if not self._share:
            return torch.zeros_like
        with torch.enable_grad():
            loss, _ = self._call_again(theta)
            product = hessian_product(loss, self.model.parameters)
        return lambda v: self.model.flatten(product(self.model.pieces(v)))

    def gauss_newton(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """See ``thinwire.curvature.Samples``; theta is the present one."""
        if not self._share:
            return torch.zeros_like
        with torch.enable_grad():
            loss, outputs = self._call_again(theta)
            curvature = by_differentiation(loss, outputs)
            product = gauss_newton_product(outputs, curvature, self.model.parameters)
        return lambda v: self.model.flatten(product(self.model.pieces(v)))

    def _call_again(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Call the closure where its loss is known, and see that it is the same."""
        loss, outputs = self._call()
        if self._known is not None and torch.equal(self._known[0], theta):
            before, now = self._known[1], float(loss.detach())
            if not math.isclose(before, now, rel_tol=1e-4, abs_tol=1e-6):
                raise ValueError(
                    "closure: expected the same loss whenever it is called with the same "
                    f"parameters, got {before / self._share:.6g} and then "
                    f"{now / self._share:.6g}: take the minibatch outside the closure, and call "
                    "model.eval() if the model has dropout or batch norm"
                )
        return loss, outputs

    def _call(self) -> tuple[Tensor, Tensor]:
        """This worker's share of the loss, and outputs."""
        with twice_differentiable():
            loss, outputs = self._closure()
        summand = loss[0] if isinstance(loss, tuple) else loss
        return summand * self._share, outputs

    @contextmanager
    def _at(self, theta: Tensor) -> Iterator[None]:
        """Parameters at theta for a while."""
        before = self.model.read()
        moved = not torch.equal(before, theta)
        if moved:
            self.model.write(theta)
        try:
            yield
        finally:
            if moved:
                self.model.write(before)
