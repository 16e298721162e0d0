"""What is special to the uniform family."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.kernels.calls import BACK_ENDS, Kernels, decode, encode, every_back_end, inputs, seeds
from thinwire.kernels import FAMILIES
from thinwire.quantize import Columns

WIDTHS = FAMILIES["uniform"].widths
LARGEST = torch.finfo(torch.float32).max


def coded(
    back_end: Kernels, bits: int, columns: Columns, v: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(new residual, levels, packed, decoded)."""
    left, levels, packed = encode(back_end, "uniform", bits, columns, v, torch.zeros_like(v))
    return left, levels, packed, decode(back_end, "uniform", bits, columns, levels, packed)


@given(st.integers(1, 300), st.sampled_from(WIDTHS), seeds, st.floats(-300, 300))
def test_the_error_is_at_most_half_a_step(n: int, bits: int, seed: int, shift: float) -> None:
    columns = Columns.from_lengths([n])
    v = sum(inputs(columns, torch.float32, seed)) + shift
    left, levels, _, decoded = coded([*BACK_ENDS.values()][-1], bits, columns, v)
    low, high = levels[0].float().tolist()
    assert low <= v.min()
    assert v.max() <= high
    step = (high - low) / (2**bits - 1)
    assert left.abs().max() <= 0.51 * step + 1e-6 * v.abs().max()
    assert torch.equal(left, v - decoded)


@every_back_end
@pytest.mark.parametrize("bits", WIDTHS)
def test_equal_values_and_the_grid_itself_are_exact(back_end: Kernels, bits: int) -> None:
    top = 2**bits - 1
    columns = Columns.from_lengths([40, 17, 2**bits])
    v = torch.cat([torch.zeros(40), torch.full((17,), -0.75), torch.arange(2.0**bits)])
    left, levels, packed, decoded = coded(back_end, bits, columns, v)
    assert not left.any()
    assert levels.tolist() == [[0, 0], [-0.75, -0.75], [0, top]]
    assert torch.equal(decoded, v)
    grid = sum(q << (bits * q) for q in range(2**bits))  # little-endian, value after value
    start = 4 * int(columns.packed_table(bits)[1, 2])
    assert bytes(packed[start:].tolist()) == grid.to_bytes(len(packed) - start, "little")


@every_back_end
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(
    "extremes", [(-LARGEST, LARGEST), (LARGEST, LARGEST), (0.0, LARGEST), (0.0, 1e-45)]
)
def test_the_ends_of_float32_do_not_overflow(
    back_end: Kernels, bits: int, extremes: tuple[float, float]
) -> None:
    columns = Columns.from_lengths([35])
    v = torch.linspace(0, 1, 35)
    v = v * extremes[1] + (1 - v) * extremes[0]
    left, levels, _, decoded = coded(back_end, bits, columns, v)
    assert levels.isfinite().all()
    assert torch.equal(left, v - decoded)
    step = extremes[1] / (2**bits - 1) - extremes[0] / (2**bits - 1)
    beyond_bfloat16 = 0.005 * extremes[1]
    assert left.abs().max() <= 0.51 * step + beyond_bfloat16 + 1e-37
