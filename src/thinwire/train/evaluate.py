"""Loss and error of a model on a split, each worker on its part."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from thinwire.data import Split, shard
from thinwire.exchange import Wire
from thinwire.models import Loss

CHUNK = 2048  # samples in one forward


@torch.no_grad()
def evaluate(
    model: nn.Module, split: Split, wire: Wire, loss: Loss, classes: int
) -> tuple[float, float | None]:
    """Mean loss and error (fraction) over the whole split, on every worker alike.

    Args:
        model: from [N, features]; run in eval mode.
        split: inputs [n, features], targets [n].
        wire: the workers; one small reduction.
        loss: (outputs, targets) -> mean over the samples.
        classes: number of classes.

    Returns:
        Loss and error; see ``batch_totals`` for where there is no error.
    """
    mine = shard(torch.arange(len(split)), wire.rank, wire.world)
    totals = torch.zeros(2, dtype=torch.float64)
    mode = model.training
    model.eval()
    for chunk in mine.split(CHUNK):
        outputs, targets = model(split.inputs[chunk]), split.targets[chunk]
        totals += batch_totals(loss(outputs, targets), outputs, targets, classes)
    model.train(mode)
    return per_sample(wire.sum(totals, "evaluation"), len(split))


def batch_totals(loss: Tensor, outputs: Any, targets: Tensor, classes: int) -> Tensor:
    """float64 [2]: summed loss and number of errors of one batch.

    Where outputs are [N, classes] an error is a target that is not the largest of them; other
    outputs have no errors, which is NaN here.

    Args:
        loss: the batch's mean.
        outputs: the model's.
        targets: int64 [N].
        classes: number of classes.
    """
    errors = torch.tensor(math.nan)
    if isinstance(outputs, Tensor) and outputs.shape == (len(targets), classes):
        errors = (outputs.detach().argmax(dim=1) != targets).sum()
    return torch.stack([loss.detach().double() * len(targets), errors.double()])


def per_sample(totals: Tensor, samples: float) -> tuple[float, float | None]:
    """Loss and error per sample, from ``batch_totals`` added up; None for NaN errors."""
    loss, errors = (totals / max(samples, 1)).tolist()
    return loss, None if math.isnan(errors) else errors
