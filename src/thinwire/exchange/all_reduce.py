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
    high = exact.to(vector.dtype)
    low = (exact - high.double()).to(vector.dtype)
    message = torch.cat([vector, high, low])
    wire.all_reduce(message, stage)
    total, high, low = message.split([len(vector), len(exact), len(exact)])
    return total, (high.double() + low.double()).tolist()
