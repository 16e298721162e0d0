"""Large residuals are stored past the caches; nothing else may change."""

from typing import Any

import pytest
import torch

from thinwire.kernels import native
from thinwire.quantize import Columns

LENGTHS = [2048, 5000, 784, 1000, 17] * 10  # 88 490 values: aligned groups, others, a long one

pytestmark = pytest.mark.skipif(not native.available(), reason="built without a compiler")


@pytest.mark.parametrize("isa", native.instruction_sets())
@pytest.mark.parametrize("code", ["sign", "rotated"])
@pytest.mark.parametrize("aligned", [True, False])
def test_memory_of_its_own_gets_the_same_residual(code: str, isa: str, aligned: bool) -> None:
    columns = Columns.from_lengths(LENGTHS)
    torch.manual_seed(0)
    gradient, residual = torch.randn(2, columns.values)
    if code == "sign":
        encode, table = native.sign_encode, columns.table
        levels = torch.empty(columns.groups, 2, dtype=torch.bfloat16)
    else:
        encode, table = native.rotated_encode, columns.block_table
        levels = torch.empty(int(table[2, -1]), dtype=torch.bfloat16)
    bits = torch.empty(4 * columns.words, dtype=torch.uint8)

    def run(new_residual: torch.Tensor) -> list[Any]:
        encode(gradient, 0.5, residual, table, new_residual, levels, bits, isa=isa)
        return [new_residual.clone(), levels.clone(), bits.clone()]

    own = torch.empty(columns.values + 16)[0 if aligned else 1 :][: columns.values]
    streamed = run(own)
    in_place = run(gradient)
    assert all(torch.equal(a, b) for a, b in zip(streamed, in_place, strict=True))


@pytest.mark.parametrize("isa", native.instruction_sets())
@pytest.mark.parametrize("aligned", [True, False])
def test_decoding_into_much_memory_gives_the_same_values(isa: str, aligned: bool) -> None:
    columns = Columns.from_lengths(LENGTHS)
    torch.manual_seed(0)
    levels = torch.randn(columns.groups, 2)
    bits = torch.randint(0, 256, (4 * columns.words,), dtype=torch.uint8)
    streamed = torch.empty(columns.values + 16)[0 if aligned else 1 :][: columns.values]
    native.sign_decode(levels, bits, columns.table, streamed, False, isa=isa)
    added = torch.zeros(columns.values)
    native.sign_decode(levels, bits, columns.table, added, True, isa=isa)
    assert torch.equal(streamed, added)
