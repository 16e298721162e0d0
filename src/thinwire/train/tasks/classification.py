"""One class for each sample."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from thinwire.data import Dataset, View, evenly_spaced, largest_class
from thinwire.models import Loss
from thinwire.train.tasks.task import Metric, Scores

ERROR = Metric("error", "error", percent=True, thresholds=(0.05, 0.04, 0.03, 0.02, 0.01))
_LOOKED_AT = 65536  # targets of each source, where the number of classes is known
ACCURACY = Metric("accuracy", "accuracy", higher_is_better=True, percent=True)


@dataclass(frozen=True)
class Classification:
    """Class numbers from logits [N, classes].

    Attributes:
        outputs: number of classes.
        loss: (logits, class numbers) -> mean over the samples.
    """

    outputs: int
    loss: Loss = F.cross_entropy
    metrics: tuple[Metric, ...] = (ERROR,)
    decides: Metric = ACCURACY
    sums: int = 1

    def convert(self, targets: Tensor) -> Tensor:
        """Leave class numbers as they are, as int64."""
        return targets.long()

    def measure(self, outputs: Any, targets: Tensor) -> Tensor:
        """Count errors: targets that are not the largest output. NaN if outputs are no logits."""
        errors = torch.tensor(math.nan)
        if isinstance(outputs, Tensor) and outputs.shape == (len(targets), self.outputs):
            errors = (outputs.argmax(dim=1) != targets).sum()
        return errors.double()[None]

    def scores(self, sums: Tensor, samples: float) -> Scores:
        """Return error and accuracy, fractions."""
        error = (sums / max(samples, 1)).item()
        if math.isnan(error):
            return {"error": None, "accuracy": None}
        return {"error": error, "accuracy": 1 - error}


def classification(dataset: Dataset) -> tuple[Classification, Dataset]:
    """Make the task of a data set whose targets are class numbers.

    Returns:
        The task, and the data set with its number of classes.

    Raises:
        ValueError: targets are something else, or a class number is too large.
    """
    train, test = dataset.train, dataset.test
    some = train.targets_of(torch.arange(1))
    if some.is_floating_point() or some.ndim != 1:
        raise ValueError(
            f"targets: expected one class number for each sample, got {some.dtype} of shape "
            f"{list(some.shape[1:])} each; task = regression learns numbers"
        )
    classes = dataset.classes or largest_class(train) + 1
    for source, name in ((train, "training"), (test, "test")):
        # Whoever names the classes need not wait until every sample has been fetched.
        numbers = evenly_spaced(len(source), _LOOKED_AT if dataset.classes else len(source))
        largest = largest_class(View(source, numbers))
        if largest >= classes:
            raise ValueError(
                f"targets: got class number {largest} in the {name} samples, expected less than "
                f"{classes}, the number of classes {'' if dataset.classes else 'in training'}"
            )
    return Classification(classes), replace(dataset, classes=classes)
