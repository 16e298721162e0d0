"""The learning rate, lowered where held-out accuracy stops improving (S section 4)."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from thinwire.train.fields import DecayFields
from thinwire.train.training import Told


class Decay:
    """torch's ReduceLROnPlateau on held-out accuracy, and when lowering further is of no use.

    Attributes:
        fruitless: how often the learning rate has been lowered since accuracy was last better.

    Args:
        optimizer: whose learning rates are lowered.
        fields: the recipe's.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, fields: DecayFields) -> None:
        self._optimizer, self._fields = optimizer, fields
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            mode="max",
            factor=fields.factor,
            patience=fields.patience,
            threshold=fields.threshold,
            threshold_mode="abs",
        )
        self.fruitless = 0

    @property
    def ended(self) -> bool:
        """Whether training has come to its end."""
        return self.fruitless > self._fields.give_up

    def note(self, accuracy: float) -> list[Told]:
        """Take a measurement into account; lower the learning rate if it is due.

        Args:
            accuracy: the fraction of held-out samples that are answered rightly.

        Returns:
            The measurement, and the decay or the end if it brought one.
        """
        before = float(self._plateau.best)
        self._plateau.step(accuracy)
        better = self._plateau.best != before
        lowered = not better and self._plateau.num_bad_epochs == 0
        self.fruitless = 0 if better else self.fruitless + lowered
        best, lr = float(self._plateau.best), float(self._optimizer.param_groups[0]["lr"])
        line = f"held-out accuracy {100 * accuracy:.2f} %"
        if math.isfinite(before):
            line += f" (better: above {100 * (before + self._fields.threshold):.2f} %)"
        told = [Told("held_out", {"accuracy": accuracy, "best": best}, line)]
        if lowered:
            fields = {"lr": lr, "accuracy": accuracy, "best": best, "ended": self.ended}
            line = "training ends: lowering it again is of no use" if self.ended else f"now {lr:g}"
            told.append(Told("decay", fields, f"learning rate: {line}"))
        return told

    def state_dict(self) -> dict[str, Any]:
        """What decides about the next measurement; learning rates are the optimiser's state."""
        best = float(self._plateau.best)
        return {
            "best": best if math.isfinite(best) else None,
            "bad": self._plateau.num_bad_epochs,
            "fruitless": self.fruitless,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        self._plateau.best = -math.inf if state["best"] is None else state["best"]
        self._plateau.num_bad_epochs = state["bad"]
        self.fruitless = state["fruitless"]
