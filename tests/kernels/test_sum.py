"""A sum of packets is the packets decoded one after another, to the bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from thinwire.kernels import native, reference
from thinwire.quantize import CODE_NAMES, Code, Columns, named_code

BACK_ENDS: list[tuple[Any, str]] = [(reference, "")]
BACK_ENDS += [(native, isa) for isa in native.instruction_sets()]
codes = st.sampled_from([named_code(name) for name in CODE_NAMES])


def packets_of(code: Code, columns: Columns, count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    packets = []
    for _ in range(count):
        values = torch.randn(columns.values, generator=generator)
        payload = torch.empty(code.payload_bytes(columns), dtype=torch.uint8)
        code.encode(values, 1.0, torch.zeros_like(values), columns, values, payload)
        packets.append(payload)
    return packets


def in_turn(code: Code, packets: list[Tensor], columns: Columns) -> Tensor:
    out = torch.full((columns.values,), torch.nan)
    for k, packet in enumerate(packets):
        code.decode(packet, columns, out, accumulate=k > 0)
    return out


@given(codes, st.lists(st.integers(0, 3000), max_size=6), st.integers(1, 5), st.integers(0, 2**31))
def test_sum_is_decoding_in_turn(code: Code, lengths: list[int], count: int, seed: int) -> None:
    columns = Columns.from_lengths(lengths)
    packets = packets_of(code, columns, count, seed)
    out = torch.full((columns.values,), torch.nan)
    code.sum(packets, columns, out)
    assert torch.equal(out, in_turn(code, packets, columns))


@pytest.mark.parametrize("threads", [1, 2])
def test_tiles_and_threads_change_nothing(threads: int) -> None:
    columns = Columns.from_lengths([2048, 5000, 784, 1000, 17] * 120)  # several tiles and runs
    code = named_code("sign")
    packets = packets_of(code, columns, 3, 0)
    out = torch.empty(columns.values)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        code.sum(packets, columns, out)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(out, in_turn(code, packets, columns))


@pytest.mark.parametrize(("kernels", "isa"), BACK_ENDS)
@pytest.mark.parametrize("name", ["sign", "rotated", "uniform"])
def test_every_back_end(name: str, kernels: Any, isa: str) -> None:
    columns = Columns.from_lengths([300, 784, 1, 40, 5000])
    generator = torch.Generator().manual_seed(0)
    table, words, bits = columns.table, columns.words, ()
    if name == "rotated":
        table = columns.block_table
    elif name == "uniform":
        table, bits = columns.packed_table(4), (4,)
        words = int(table[1, -1])
    shape = (int(table[2, -1]),) if name == "rotated" else (columns.groups, 2)
    levels = [torch.randn(shape, generator=generator).bfloat16() for _ in range(3)]
    packed = [
        torch.randint(0, 256, (4 * words,), dtype=torch.uint8, generator=generator)
        for _ in range(3)
    ]
    extra = {"isa": isa} if isa else {}
    summed, expected = torch.empty(2, columns.values)
    sum_, decode = getattr(kernels, f"{name}_sum"), getattr(kernels, f"{name}_decode")
    sum_(levels, packed, table, *bits, summed, **extra)
    for k in range(3):
        decode(levels[k], packed[k], table, *bits, expected, k > 0, **extra)
    assert torch.equal(summed, expected)


@pytest.mark.parametrize("name", ["sign", "rotated", "4-bit"])
def test_operators_pass_opcheck(name: str) -> None:
    columns = Columns.from_lengths([300, 40])
    code = named_code(name)
    found: list[tuple[Any, ...]] = []
    operator = f"{'uniform' if name == '4-bit' else name}_sum"
    genuine = getattr(torch.ops.thinwire, operator)

    def record(*arguments: Any) -> None:
        found.append(arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.thinwire, operator, record)
        code.sum(packets_of(code, columns, 2, 0), columns, torch.empty(340))
    torch.library.opcheck(genuine.default, found[0])


def test_mistakes_are_named() -> None:
    if not native.available():
        pytest.skip("built without a compiler")
    columns = Columns.from_lengths([40])
    levels, bits = torch.zeros(1, 2), torch.zeros(8, dtype=torch.uint8)
    wrong: list[tuple[type[Exception], str, Callable[[], None]]] = [
        (ValueError, "at least one", lambda: call([], [])),
        (ValueError, "bits", lambda: call([levels], [bits[:4]])),
        (TypeError, "levels", lambda: call([levels, levels.bfloat16()], [bits, bits])),
    ]

    def call(all_levels: list[Tensor], all_bits: list[Tensor]) -> None:
        native.sign_sum(all_levels, all_bits, columns.table, torch.empty(40))

    for kind, said, mistake in wrong:
        with pytest.raises(kind, match=said):
            mistake()
