"""What is special to the sign family."""

import torch

from tests.kernels.calls import Kernels, decode, encode, every_back_end
from thinwire.quantize import Columns


@every_back_end
def test_levels_are_the_means_of_each_side(back_end: Kernels) -> None:
    columns = Columns.from_lengths([5, 3])
    gradient = torch.tensor([1.0, -2.0, 3.0, 0.0, -0.0, -1.0, -3.0, -5.0])
    new_residual, levels, bits = encode(back_end, "sign", 1, columns, gradient, torch.zeros(8))
    # The mean of 1, 3, 0 and -0 is 1; of -1, -3 and -5 it is -3.
    assert levels.tolist() == [[-2.0, 1.0], [-3.0, 0.0]]
    assert bits.tolist() == [0b11101, 0, 0, 0, 0, 0, 0, 0]
    assert new_residual.tolist() == [0.0, 0.0, 2.0, -1.0, -1.0, 2.0, 0.0, -2.0]


@every_back_end
def test_two_valued_groups_are_exact(back_end: Kernels) -> None:
    columns = Columns.from_lengths([300, 0, 1, 77])
    generator = torch.Generator().manual_seed(0)
    values = torch.where(torch.rand(columns.values, generator=generator) < 0.5, 0.75, -0.5)
    left, levels, bits = encode(back_end, "sign", 1, columns, values, torch.zeros_like(values))
    assert torch.equal(decode(back_end, "sign", 1, columns, levels, bits), values)
    assert not left.any()
