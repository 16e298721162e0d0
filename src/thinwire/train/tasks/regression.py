"""Numbers for each sample."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from thinwire.data import Dataset
from thinwire.models import Loss
from thinwire.train.tasks.task import Metric, Scores

MSE = Metric("mse", "mean squared error")
MAE = Metric("mae", "mean absolute error")
R2 = Metric("r2", "R\N{SUPERSCRIPT TWO}", higher_is_better=True, thresholds=(0.5, 0.8, 0.9, 0.95))


@dataclass(frozen=True)
class Regression:
    """Numbers [N, outputs], by their mean squared error.

    With several outputs, R2 is 1 - sum of squared errors / sum of squared deviations from each
    output's mean, both over all outputs.

    Attributes:
        outputs: numbers a sample has as its target.
        loss: (outputs, targets) -> mean over samples and outputs.
    """

    outputs: int
    loss: Loss = F.mse_loss
    metrics: tuple[Metric, ...] = (MSE, MAE, R2)
    decides: Metric = R2

    @property
    def sums(self) -> int:
        """Squared errors, absolute errors, squared targets, and each output's targets."""
        return 3 + self.outputs

    def convert(self, targets: Tensor) -> Tensor:
        """Make float32 [m, outputs] of numbers [m] or [m, outputs]."""
        return targets.float().reshape(len(targets), self.outputs)

    def measure(self, outputs: Any, targets: Tensor) -> Tensor:
        """Sum up what the metrics are made of; NaN if outputs have another shape."""
        if not isinstance(outputs, Tensor) or outputs.shape != targets.shape:
            return torch.full((self.sums,), torch.nan, dtype=torch.float64)
        wanted = targets.double()
        errors = outputs.double() - wanted
        parts = [errors.square().sum(), errors.abs().sum(), wanted.square().sum()]
        return torch.cat([torch.stack(parts), wanted.sum(dim=0)])

    def scores(self, sums: Tensor, samples: float) -> Scores:
        """Return mse, mae and r2; r2 is None where all targets are the same."""
        if bool(sums.isnan().any()):
            return dict.fromkeys(("mse", "mae", "r2"))
        samples = max(samples, 1)
        squared, absolute, square, *means = sums.tolist()
        deviation = square - sum(total * total for total in means) / samples
        values = samples * self.outputs
        # Below this the deviation is what rounding leaves of targets that are all the same.
        varies = deviation > 1e-12 * square
        r2 = 1 - squared / deviation if varies else None
        return {"mse": squared / values, "mae": absolute / values, "r2": r2}


def regression(dataset: Dataset) -> tuple[Regression, Dataset]:
    """Make the task of a data set whose targets are numbers.

    Raises:
        ValueError: targets are words or have several axes.
    """
    if dataset.labels:
        words = ", ".join(dataset.labels[:3])
        raise ValueError(f"targets: expected numbers, got words ({words}); task = classification")
    shapes = {tuple(s.targets_of(torch.arange(1)).shape[1:]) for s in (dataset.train, dataset.test)}
    if len(shapes) > 1 or len(min(shapes)) > 1:
        raise ValueError(
            f"targets: expected one number or one row of numbers for each sample, the same in "
            f"training and test samples, got shapes {sorted(map(list, shapes))}"
        )
    return Regression(torch.Size(min(shapes)).numel()), dataset
