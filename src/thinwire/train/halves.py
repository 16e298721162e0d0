"""A minibatch as double buffering takes it: in two halves (S section 2.2)."""

from torch import Tensor


def halves(minibatch: Tensor) -> list[Tensor]:
    """Sample numbers ``[m]`` -> the first ``ceil(m / 2)`` of them and the rest, if there is one.

    >>> import torch
    >>> [part.tolist() for part in halves(torch.arange(5))]
    [[0, 1, 2], [3, 4]]
    >>> len(halves(torch.arange(1)))
    1
    """
    return list(minibatch.split((len(minibatch) + 1) // 2))
