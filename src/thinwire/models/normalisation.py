"""Shifting and scaling inputs by statistics of the training data."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

NormalisedBy = Literal["all", "feature", "none"]

_CONSTANT = 1e-6  # a deviation below this is of inputs that tell nothing


@dataclass(frozen=True, eq=False)
class Normalisation:
    """(inputs - mean) * scale.

    Attributes:
        mean: [] or the shape of one input, float32.
        scale: of the same shape.
    """

    mean: Tensor
    scale: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        """Inputs [n, ...] as a model takes them."""
        return (inputs - self.mean) * self.scale


def fit_normalisation(inputs: Tensor, by: NormalisedBy) -> Normalisation:
    """What brings training inputs to zero mean and unit variance.

    Constant inputs are shifted but not scaled: in other data they may vary.

    Args:
        inputs: [n, ...], the training inputs alone.
        by: "all": one mean and deviation over all values; "feature": one for each feature;
            "none": inputs stay as they are.

    >>> fit_normalisation(torch.tensor([[1.0, 7.0], [3.0, 7.0]]), "feature").mean
    tensor([2., 7.])
    """
    if by == "none":
        return Normalisation(torch.zeros(()), torch.ones(()))
    if by == "all":
        deviation, mean = torch.std_mean(inputs)
    else:
        deviation, mean = torch.std_mean(inputs, dim=0, correction=min(1, len(inputs) - 1))
    varies = deviation > _CONSTANT
    return Normalisation(mean, torch.where(varies, 1 / deviation, torch.ones(())))
