"""Rows whose gradient is always zero, as a padding row's, where a row is a column or several."""

import pytest
import torch

from tests.simulation import Simulation
from thinwire.quantize import FlatSpace, named_code

PADDING = 3
SHARED = ["sign", "rotated", "2-bit", "4-bit", "8-bit"]  # levels of a column


def exchanged(code: str, width: int) -> torch.Tensor:
    """What arrives of such a row in three steps, [3, width]; the others' gradients are normal."""
    shape = torch.Size((8, width))
    space, arrived = FlatSpace([shape]), []
    workers = Simulation(space.columns, 2)
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        gradients = torch.randn(2, *shape, generator=generator)
        gradients[:, PADDING] = 0
        workers.reduce(named_code(code), list(gradients.view(2, -1)))
        workers.commit()
        arrived.append(workers.distribute(named_code(code))[0].view(shape)[PADDING])
    return torch.stack(arrived)


@pytest.mark.parametrize("code", ["float32", "bfloat16", *SHARED])
@pytest.mark.parametrize("width", [256, 300, 5000])
def test_rows_of_256_values_or_more_stay_at_zero(code: str, width: int) -> None:
    assert not exchanged(code, width).any()


@pytest.mark.parametrize("code", ["float32", "bfloat16"])
def test_shorter_rows_stay_at_zero_where_values_travel_by_themselves(code: str) -> None:
    assert not exchanged(code, 64).any()


@pytest.mark.parametrize("code", SHARED)
def test_shorter_rows_share_a_column_with_others_and_move(code: str) -> None:
    """Which docs/codes.md says, with what to do about it."""
    assert exchanged(code, 64).any()
