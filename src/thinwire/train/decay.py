"""The learning rate, lowered where a held-out metric stops improving (S section 4)."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from thinwire.train.fields import DecayFields
from thinwire.train.tasks import Metric
from thinwire.train.training import Told


class Decay:
    """torch's ReduceLROnPlateau on the deciding metric, and when lowering further is of no use.

    Attributes:
        fruitless: how often the learning rate has been lowered since the metric was last better.

    Args:
        optimizer: whose learning rates are lowered.
        fields: the recipe's.
        metric: the task's deciding one.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, fields: DecayFields, metric: Metric
    ) -> None:
        self._optimizer, self._fields, self._metric = optimizer, fields, metric
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            mode="max" if metric.higher_is_better else "min",
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

    def note(self, value: float) -> list[Told]:
        """Take a measurement into account; lower the learning rate if it is due.

        Args:
            value: of the metric, on the held-out samples.

        Returns:
            The measurement, and the decay or the end if it brought one.
        """
        before = float(self._plateau.best)
        self._plateau.step(value)
        better = self._plateau.best != before
        lowered = not better and self._plateau.num_bad_epochs == 0
        self.fruitless = 0 if better else self.fruitless + lowered
        best, lr = float(self._plateau.best), float(self._optimizer.param_groups[0]["lr"])
        metric = self._metric
        line = f"held-out {metric.title} {metric.text(value)}"
        if math.isfinite(before):
            line += f" (better: {metric.better_than(before, self._fields.threshold)})"
        told = [Told("held_out", {metric.name: value, "best": best}, line)]
        if lowered:
            fields = {"lr": lr, metric.name: value, "best": best, "ended": self.ended}
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
        worst = -math.inf if self._metric.higher_is_better else math.inf
        self._plateau.best = worst if state["best"] is None else state["best"]
        self._plateau.num_bad_epochs = state["bad"]
        self.fruitless = state["fruitless"]
