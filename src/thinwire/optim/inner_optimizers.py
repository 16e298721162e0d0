"""The optimisers of each worker's own steps, one or several, as one."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Parameter

from thinwire.optim.exchanged import ExchangedOptimizer
from thinwire.optim.hessian_free import HessianFree


class InnerOptimizers:
    """What ``LocalSteps`` asks of its inner optimisers, which step one after the other.

    Args:
        given: a torch optimiser, or a list of several over different parameters.

    Raises:
        TypeError: something else, or an optimiser that exchanges gradients itself.
        ValueError: an empty list.
    """

    def __init__(self, given: torch.optim.Optimizer | Sequence[torch.optim.Optimizer]) -> None:
        self._several = isinstance(given, Sequence)
        self._all = list(given) if isinstance(given, Sequence) else [given]
        if not self._all:
            raise ValueError("inner: expected at least one torch optimiser, got an empty list")
        for one in self._all:
            _check(one)

    @property
    def names(self) -> str:
        """Of their classes."""
        return ", ".join(type(one).__qualname__ for one in self._all)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of all, one after the other."""
        return [group for one in self._all for group in one.param_groups]

    def named(self, given: Iterable[tuple[str, Parameter]]) -> list[tuple[str, Parameter]]:
        """Return their parameters with their names, in their order.

        Args:
            given: the model's names and parameters.

        Raises:
            TypeError: a parameter is a DTensor.
            ValueError: a parameter has no name, or is given to two of them.
        """
        name_of = {parameter: name for name, parameter in given}
        named: dict[Parameter, str] = {}
        for i, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                if parameter not in name_of:
                    raise ValueError(
                        f"named_parameters: expected every parameter of inner, lacks one of shape "
                        f"{[*parameter.shape]} of its param group {i}, which would not be exchanged"
                    )
                name = name_of[parameter]
                if parameter in named:
                    raise ValueError(f"{name}: expected it in one inner optimiser, got it in two")
                if isinstance(parameter, DTensor):
                    raise TypeError(
                        f"{name}: expected an ordinary parameter, got a DTensor, which local steps "
                        "do not take"
                    )
                named[parameter] = name
        return [(name, parameter) for parameter, name in named.items()]

    def zero_grad(self, set_to_none: bool) -> None:
        """As in torch."""
        for one in self._all:
            one.zero_grad(set_to_none)

    def step(self, closure: Callable[[], float] | None) -> float | None:
        """Take a step of each; the first one calls the closure, and its result is returned."""
        first, *others = self._all
        loss = first.step(closure)
        for other in others:
            other.step()
        return loss

    def forget_nonfinite(self) -> None:
        """Have them begin anew with parameters of which they keep something that is not finite."""
        for one in self._all:
            for parameter, state in list(one.state.items()):
                tensors = [value for value in state.values() if isinstance(value, Tensor)]
                if not all(bool(value.isfinite().all()) for value in tensors):
                    one.state[parameter] = {}

    def state_dict(self) -> Any:
        """Return the state dict of the one, or a list of those of several."""
        found = [one.state_dict() for one in self._all]
        return found if self._several else found[0]

    def check_state(self, stored: Any) -> None:
        """Raise ValueError if there are state dicts of another number of optimisers."""
        count = len(_listed(stored))
        if count != len(self._all):
            raise ValueError(
                f"state_dict: expected the state of {len(self._all)} inner optimisers, got {count}"
            )

    def load_state_dict(self, stored: Any) -> None:
        """Go on from what ``state_dict`` returned."""
        for one, own in zip(self._all, _listed(stored), strict=True):
            one.load_state_dict(own)


def _listed(stored: Any) -> list[Any]:
    return list(stored) if isinstance(stored, Sequence) else [stored]


def _check(inner: Any) -> None:
    if not isinstance(inner, torch.optim.Optimizer):
        got = inner if isinstance(inner, type) else type(inner)
        raise TypeError(
            "inner: expected a torch optimiser such as torch.optim.AdamW(model.parameters()), or a "
            f"list of them, got {got.__name__}"
        )
    if isinstance(inner, (ExchangedOptimizer, HessianFree)):
        raise TypeError(
            f"inner: expected an optimiser of one worker, got {type(inner).__name__}, which "
            "exchanges by itself"
        )
