"""Loss and metrics of a model on a source, each worker on its part."""

from typing import Any

import torch
from torch import Tensor, nn

from thinwire.data import DataSource, share_of
from thinwire.exchange import Wire
from thinwire.models import Loss
from thinwire.train.agreement import keeping_in_touch
from thinwire.train.tasks import Scores, Task

CHUNK = 2048  # samples in one forward


def evaluate(model: nn.Module, source: DataSource, wire: Wire, loss: Loss, task: Task) -> Scores:
    """Measure a model on a whole source, on every worker alike.

    Args:
        model: from inputs [N, ...]; run in eval mode.
        source: the samples.
        wire: the workers; one small reduction, for which a slow one is waited.
        loss: (outputs, targets) -> mean over the samples.
        task: whose metrics are measured.

    Returns:
        Means by name: "loss", the task's metrics and the deciding one.
    """
    mine = share_of(len(source), wire.rank, wire.world)

    @torch.no_grad()
    def measure() -> Tensor:
        totals = torch.zeros(1 + task.sums, dtype=torch.float64)
        for first in range(mine.start, mine.stop, CHUNK):
            numbers = torch.arange(first, min(first + CHUNK, mine.stop))
            inputs, targets = source.batch(numbers)
            outputs = model(inputs)
            totals += batch_totals(loss(outputs, targets), outputs, targets, task)
        return totals

    mode = model.training
    model.eval()
    totals = keeping_in_touch(measure, wire)
    model.train(mode)
    return per_sample(wire.sum(totals, "evaluation"), len(source), task)


def batch_totals(loss: Tensor, outputs: Any, targets: Tensor, task: Task) -> Tensor:
    """Sum up the loss, and what the task's metrics are made of, over one batch.

    Args:
        loss: the batch's mean.
        outputs: the model's.
        targets: [N, ...].
        task: whose metrics.

    Returns:
        float64 [1 + task.sums].
    """
    values = outputs.detach() if isinstance(outputs, Tensor) else outputs
    total = loss.detach().double() * len(targets)
    return torch.cat([total[None], task.measure(values, targets)])


def per_sample(totals: Tensor, samples: float, task: Task) -> Scores:
    """Make means of ``batch_totals`` added up."""
    loss = (totals[0] / max(samples, 1)).item()
    return {"loss": loss, **task.scores(totals[1:], samples)}


def no_value(task: Task) -> str:
    """What a model lacks of which the deciding metric cannot be told."""
    return (
        f"outputs that have a value of {task.decides.title}: one tensor [N, {task.outputs}] for "
        f"N samples that are not all alike"
    )
