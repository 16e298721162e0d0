"""A whole model under FSDP2: one reduce-scatter for each module that has parameters of its own."""

from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from thinwire.exchange import (
    DROP_IN_CODE,
    Codes,
    ExchangeConfig,
    Ledger,
    State,
    counts_of,
    with_counts,
)
from thinwire.fsdp.reduce_scatter import OneBitReduceScatter, own_parameters

_taken: WeakSet[nn.Module] = WeakSet()


class ShardedState:
    """What this worker keeps for a model whose gradients are reduced and scattered in few bits.

    Args:
        model: after ``fully_shard``, whole or layer by layer.
        code: see ``OneBitReduceScatter``.
        error_feedback: see there.
        grad_scaler: see there.

    Attributes:
        ledger: traffic of this worker so far, of all modules.
        reduce_scatters: by the module's name in the model ("" is the model itself).

    Raises:
        TypeError: ``fully_shard`` was not called on any module.
        ValueError: an unknown code, a parameter that is not sharded by rows, or a model that has
            been given to thinwire already.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        code: Codes = DROP_IN_CODE,
        error_feedback: bool | float = ExchangeConfig.error_feedback,
        grad_scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        modules = dict(_sharded_modules(model))
        if not modules:
            raise TypeError("model: call fully_shard on it, or on its layers, first")
        if any(module in _taken for module in modules.values()):
            raise ValueError(
                "model: its gradients go through thinwire already: call thinwire.compress once"
            )
        self.ledger = Ledger()
        self.reduce_scatters = {}
        for name, module in modules.items():
            communication = OneBitReduceScatter(
                module, code=code, error_feedback=error_feedback, grad_scaler=grad_scaler
            )
            communication.ledger = self.ledger
            self.reduce_scatters[name] = communication
        for name, module in modules.items():
            module.set_custom_reduce_scatter(self.reduce_scatters[name])
            _taken.add(module)

    def discard(self) -> None:
        """Take back the last backward; see ``OneBitReduceScatter``."""
        for one in self.reduce_scatters.values():
            one.discard()

    def state_dict(self) -> dict[str, Any]:
        """What this worker carries, by the parameters' names in the model; between backwards.

        Returns:
            The form of ``OneBitReduceScatter.state_dict``; ``thinwire.reshard`` adapts it to
            another number of workers.
        """
        states = {name: one.state_dict() for name, one in self.reduce_scatters.items()}
        entries = {
            _full(module, name): entry
            for module, state in states.items()
            for name, entry in state["state"].items()
        }
        return with_counts({"state": entries}, counts_of(next(iter(states.values()))))

    def load_state_dict(self, state_dict: State) -> None:
        """Continue from this worker's ``state_dict``; at any time between backwards.

        Raises:
            ValueError: the state of another worker, of another number of workers, or of other
                parameters.
        """
        entries = state_dict["state"]
        for module, one in self.reduce_scatters.items():
            names = {name: _full(module, name) for name in one.names}
            own = {name: entries[full] for name, full in names.items() if full in entries}
            one.load_state_dict({**state_dict, "state": own})


def _sharded_modules(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Sharded modules that have parameters of their own to train."""
    for name, module in model.named_modules():
        trains = any(parameter.requires_grad for _, parameter in own_parameters(module))
        if trains and isinstance(module, FSDPModule):
            yield name, module


def _full(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name
