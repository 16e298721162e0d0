"""A state to come back to, in memory: trials start from it, and leave nothing but their costs."""

import copy
from typing import Any, Protocol

import torch

from thinwire.exchange import Ledger, Traffic

TRIAL = "trial "  # before the names of stages: what trials sent


class Stateful(Protocol):
    """A module, an optimiser, a sampler, a scheduler, ..."""

    def state_dict(self) -> dict[str, Any]:
        """All that changes."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Go back to it."""


class Exchanging(Stateful, Protocol):
    """An optimiser of thinwire's."""

    @property
    def ledger(self) -> Ledger:
        """Traffic of this worker so far."""
        ...


class Snapshot:
    """What a checkpoint would store, copied in memory when this is made.

    That is parameters and buffers, both residuals, the owner's state, rates, the phase and exchange
    numbers, each other part's ``state_dict``, and the state of torch's generator on the CPU. It
    takes as much memory again as they do.

    Args:
        optimizer: this worker's.
        model: what it trains.
        others: what else training changes: the sampler, schedulers.
    """

    def __init__(self, optimizer: Exchanging, model: torch.nn.Module, *others: Stateful) -> None:
        self._ledger = optimizer.ledger
        self._sent = copy.deepcopy(optimizer.ledger.stages)
        self._parts: tuple[Any, ...] = (model, optimizer, *others)
        self._states = copy.deepcopy([part.state_dict() for part in self._parts])
        self._random = torch.get_rng_state()

    def restore(self) -> None:
        """Go back; may be done any number of times. Every worker must have ended its step.

        What has been sent since stays in the ledger, under "trial gradients" and so on.
        """
        since = self._ledger.stages
        for part, state in zip(self._parts, self._states, strict=True):
            part.load_state_dict(state)
        torch.set_rng_state(self._random)
        for stage, traffic in since.items():
            name = stage if stage.startswith(TRIAL) else TRIAL + stage
            self._ledger.add(name, traffic - self._sent.get(stage, Traffic()))
