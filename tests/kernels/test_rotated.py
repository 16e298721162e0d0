"""What is special to the rotated family."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels.calls import Kernels, decode, encode, every_back_end, inputs, seeds
from thinwire.kernels import reference
from thinwire.quantize import Columns


@given(st.integers(1, 1200), seeds)
def test_energy_splits_into_decoded_and_residual(n: int, seed: int) -> None:
    """The rotation is orthogonal and its level the best: |v|^2 = |decoded|^2 + |residual|^2."""
    columns = Columns.from_lengths([n])
    gradient, residual = inputs(columns, torch.float32, seed)
    left, levels, bits = encode(
        reference.KERNELS, "rotated", 1, columns, gradient, residual, level_type=torch.float32
    )
    decoded = decode(reference.KERNELS, "rotated", 1, columns, levels, bits)
    whole, parts = (gradient + residual).norm() ** 2, decoded.norm() ** 2 + left.norm() ** 2
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n", [300, 512, 784, 1000, 2048])
def test_a_single_spike_is_kept_as_well_as_a_normal_group(n: int) -> None:
    """What the rotation is for; the sign code would leave more than 0.99 of a spike's energy."""
    columns = Columns.from_lengths([n])
    for at in (0, n // 3, n - 1):
        spike = torch.zeros(n)
        spike[at] = 5.0
        left, _, _ = encode(reference.KERNELS, "rotated", 1, columns, spike, torch.zeros(n))
        assert left.norm() ** 2 / 25 < 0.45


@every_back_end
def test_zero_groups_and_lone_values_are_exact(back_end: Kernels) -> None:
    columns = Columns.from_lengths([784, 1, 40, 1])
    v = torch.zeros(columns.values)
    v[784], v[825] = 0.75, -3.0
    left, levels, bits = encode(back_end, "rotated", 1, columns, v, torch.zeros_like(v))
    assert not left.any()
    assert torch.equal(decode(back_end, "rotated", 1, columns, levels, bits), v)
