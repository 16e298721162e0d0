"""Bounds that come from rounding: what one unit in the last place does to a result.

Two computations of the same sums in another order (other chunks, workers, threads, vector
instructions) differ by rounding, which an algorithm may amplify by any factor. How far they may
stand apart is therefore measured in the same test: perturb the input by one unit in the last place
and see how far that carries.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def nudge(tensors: Iterable[Tensor], seed: int, units: int = 1) -> None:
    """Move every value by some units in the last place, up or down at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in tensors:
            up = torch.randint(0, 2, tensor.shape, generator=generator).bool()
            target = torch.where(up, torch.inf, -torch.inf).to(tensor)
            for _ in range(units):
                tensor.copy_(torch.nextafter(tensor, target))


def apart(one: Tensor | Sequence[float], other: Tensor | Sequence[float]) -> float:
    """|one - other| / |one|; infinity where that is not a number."""
    one, other = (torch.as_tensor(x, dtype=torch.float64) for x in (one, other))
    relative = float((one - other).norm() / one.norm())
    return math.inf if math.isnan(relative) else relative
