"""The anchor of local steps: the model that all workers share, and what moves it.

An anchor is a copy of the model's parameters, the same on every worker. At the end of a round it
takes the place of the model in an ordinary exchange: its gradient is what the worker has moved, and
``OwnerOptimizer`` does the rest, with the outer momentum at the owners.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from thinwire.optim.owner import OwnerOptimizer

Facts = Callable[[], dict[str, Any]]
_KEPT = (torch.float64, torch.complex64, torch.complex128)


class AnchorOptimizer(OwnerOptimizer):
    """The outer optimiser of ``LocalSteps``; it also compares what the inner one goes by.

    Args:
        anchors: names and anchors.
        facts: what must be the same on every worker from the beginning.
        facts_now: what must be the same in every round.
        momentum: of Nesterov's kind; 0 has none.
        options: ``OwnerOptimizer``'s.
    """

    def __init__(
        self,
        anchors: Sequence[tuple[str, Parameter]],
        facts: dict[str, Any],
        facts_now: Facts,
        *,
        momentum: float,
        **options: Any,
    ) -> None:
        self._inner_facts, self._inner_now = facts, facts_now
        nesterov = momentum > 0
        super().__init__(torch.optim.SGD, anchors, momentum=momentum, nesterov=nesterov, **options)

    def facts(self, group: dict[str, Any]) -> dict[str, Any]:
        """See ``ExchangedOptimizer``."""
        return {**self._inner_facts, **super().facts(group)}

    def _facts_now(self) -> dict[str, Any]:
        return {**super()._facts_now(), **self._inner_now()}


def anchor_of(parameter: Tensor) -> Parameter:
    """Return a copy of a parameter, in float32 where its own dtype is shorter."""
    dtype = parameter.dtype if parameter.dtype in _KEPT else torch.float32
    return Parameter(parameter.detach().to(dtype, copy=True))


def moved(anchor: Tensor, parameter: Tensor) -> Tensor | None:
    """How far a worker is from the anchor, anchor - parameter; None if it has not moved.

    Args:
        anchor: as ``anchor_of`` made it.
        parameter: of the model, which began the round at the anchor rounded to its own dtype.
    """
    found = anchor.to(parameter.dtype).to(anchor.dtype) - parameter.to(anchor.dtype)
    return found if bool(found.any()) else None
