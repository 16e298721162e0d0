"""The door from the data plane to the control plane.

Vectors, samples and graphs stay on the device of the parameters. Python branches on plain numbers,
which are read here, several at a time: on a device each read waits for all work before it.
"""

import functools
import operator
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from thinwire.curvature.flat import whole


def read(scalars: Sequence[Tensor]) -> list[float]:
    """Scalars of one device as Python's numbers, in one copy to the host; of none, no copy."""
    if not scalars:
        return []
    numbers: list[float] = torch.stack([whole(s).detach() for s in scalars]).cpu().tolist()
    return numbers


def added(numbers: Iterable[float]) -> float:
    """Their sum from left to right, one rounding each: ``sum`` does more since Python 3.12."""
    return functools.reduce(operator.add, numbers, 0.0)


def all_finite(vector: Tensor) -> bool:
    """Whether no value is NaN or infinite: one read."""
    return bool(vector.isfinite().all())
