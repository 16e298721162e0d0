"""Loss and error of a model on a split, each worker on its part."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thinwire.data import Split, shard
from thinwire.exchange import Wire

CHUNK = 2048  # samples in one forward


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, wire: Wire) -> tuple[float, float]:
    """Mean cross entropy (nats) and error (fraction) over the whole split, on every worker alike.

    Args:
        model: [N, features] -> logits [N, classes].
        split: inputs [n, features], targets [n].
        wire: the workers; one small reduction.
    """
    mine = shard(torch.arange(len(split)), wire.rank, wire.world)
    totals = torch.zeros(2, dtype=torch.float64)
    model.eval()
    for chunk in mine.split(CHUNK):
        totals += batch_totals(model(split.inputs[chunk]), split.targets[chunk])
    model.train()
    loss, errors = (wire.sum(totals, "evaluation") / len(split)).tolist()
    return loss, errors


def batch_totals(logits: Tensor, targets: Tensor) -> Tensor:
    """float64 [2]: summed cross entropy and number of errors of one batch."""
    loss = F.cross_entropy(logits.detach(), targets, reduction="sum")
    errors = (logits.detach().argmax(dim=1) != targets).sum()
    return torch.stack([loss.double(), errors.double()])
