"""Sums of flat vectors over workers: one all-reduce each, with a few scalars riding along."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thinwire.exchange.wire import Wire


def all_reduce(
    vector: Tensor, riders: Sequence[float], wire: Wire, stage: str
) -> tuple[Tensor, list[float]]:
    """The sum over workers of a vector and of some scalars, in one collective.

    A scalar beside a float32 vector travels as two float32, its rounded value and what rounding
    left, so that a loss keeps some 48 bits.

    Args:
        vector: [P], float32 or float64; this worker's summand, left as it is.
        riders: this worker's summands of the scalars.
        wire: the workers.
        stage: where the ledger enters it.

    Returns:
        The sums, the same to the bit on every worker. With one worker ``vector`` itself.
    """
    if wire.world == 1:
        return vector, list(riders)
    exact = torch.tensor(riders, dtype=torch.float64, device=vector.device)
    parts = [exact.to(vector.dtype)]
    if vector.dtype != torch.float64:
        parts.append((exact - parts[0].double()).to(vector.dtype))
    message = torch.cat([vector, *parts])
    wire.all_reduce(message, stage)
    total, *parts = message.split([len(vector), *map(len, parts)])
    return total, sum(part.double() for part in parts).tolist()
