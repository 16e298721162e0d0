"""The uniform codes: every native variant against the plain-torch definition, to the bit."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.kernels.test_kernels import (
    Encoder,
    gradient_dtypes,
    lengths,
    make_inputs,
    needs_native,
    seeds,
)
from thinwire.kernels import native, reference
from thinwire.quantize import Columns

widths = st.sampled_from([2, 4, 8])
LARGEST = torch.finfo(torch.float32).max


def encode_with(
    encode: Encoder,
    columns: Columns,
    bits: int,
    gradient: Tensor,
    residual: Tensor,
    scale: float = 1.0,
    target: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    layout = columns.packed_table(bits)
    new_residual = torch.full_like(residual, 7.0) if target is None else target
    levels = torch.full((columns.groups, 2), 7.0, dtype=torch.bfloat16)
    packed = torch.full((4 * int(layout[1, -1]),), 7, dtype=torch.uint8)
    encode(gradient, scale, residual, layout, bits, new_residual, levels, packed)
    return new_residual, levels, packed


def decode_with(
    decode: Encoder, columns: Columns, bits: int, levels: Tensor, packed: Tensor
) -> Tensor:
    out = torch.full((columns.values,), torch.nan)
    decode(levels, packed, columns.packed_table(bits), bits, out, False)
    return out


def encoders() -> list[Encoder]:
    variants = [partial(native.uniform_encode, isa=isa) for isa in native.instruction_sets()]
    return [reference.uniform_encode, *variants]


@needs_native
@given(lengths, widths, gradient_dtypes, seeds, st.sampled_from([1.0, 1e-30, 1e-38, 37.0, 1e37]))
def test_native_encodes_as_the_reference_does(
    group_lengths: list[int], bits: int, dtype: torch.dtype, seed: int, scale: float
) -> None:
    columns = Columns.from_lengths(group_lengths)
    gradient, residual = make_inputs(columns, dtype, seed)
    residual *= scale
    expected = encode_with(reference.uniform_encode, columns, bits, gradient, residual, scale)
    for encode in encoders():
        result = encode_with(encode, columns, bits, gradient, residual, scale)
        for own, other in zip(result, expected, strict=True):
            assert torch.equal(own, other)


@needs_native
@given(lengths, widths, seeds, st.booleans())
def test_native_decodes_as_the_reference_does(
    group_lengths: list[int], bits: int, seed: int, accumulate: bool
) -> None:
    columns = Columns.from_lengths(group_lengths)
    layout = columns.packed_table(bits)
    gradient, residual = make_inputs(columns, torch.float32, seed)
    _, levels, packed = encode_with(reference.uniform_encode, columns, bits, gradient, residual)
    expected = residual.clone()
    reference.uniform_decode(levels, packed, layout, bits, expected, accumulate)
    for isa in native.instruction_sets():
        out = residual.clone()
        native.uniform_decode(levels, packed, layout, bits, out, accumulate, isa=isa)
        assert torch.equal(out, expected)


@given(st.integers(1, 300), widths, seeds, st.floats(-300, 300))
def test_the_error_is_at_most_half_a_step(n: int, bits: int, seed: int, shift: float) -> None:
    columns = Columns.from_lengths([n])
    gradient, residual = make_inputs(columns, torch.float32, seed)
    gradient += shift
    left, levels, packed = encode_with(encoders()[-1], columns, bits, gradient, residual)
    v = gradient + residual
    low, high = levels[0].float().tolist()
    assert low <= v.min()
    assert v.max() <= high
    step = (high - low) / (2**bits - 1)
    assert left.abs().max() <= 0.51 * step + 1e-6 * v.abs().max()
    decoded = decode_with(reference.uniform_decode, columns, bits, levels, packed)
    assert torch.equal(left, v - decoded)


@pytest.mark.parametrize("encode", encoders())
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_equal_values_and_the_grid_itself_are_exact(encode: Encoder, bits: int) -> None:
    top = 2**bits - 1
    columns = Columns.from_lengths([40, 17, 2**bits])
    v = torch.cat([torch.zeros(40), torch.full((17,), -0.75), torch.arange(2.0**bits)])
    left, levels, packed = encode_with(encode, columns, bits, v, torch.zeros_like(v))
    assert not left.any()
    assert levels.tolist() == [[0, 0], [-0.75, -0.75], [0, top]]
    assert torch.equal(decode_with(reference.uniform_decode, columns, bits, levels, packed), v)
    grid = sum(q << (bits * q) for q in range(2**bits))  # little-endian, value after value
    start = 4 * int(columns.packed_table(bits)[1, 2])
    assert bytes(packed[start:].tolist()) == grid.to_bytes(len(packed) - start, "little")


@pytest.mark.parametrize("encode", encoders())
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(
    "extremes", [(-LARGEST, LARGEST), (LARGEST, LARGEST), (0.0, LARGEST), (0.0, 1e-45)]
)
def test_the_ends_of_float32_do_not_overflow(
    encode: Encoder, bits: int, extremes: tuple[float, float]
) -> None:
    columns = Columns.from_lengths([35])
    v = torch.linspace(0, 1, 35)
    v = v * extremes[1] + (1 - v) * extremes[0]
    left, levels, packed = encode_with(encode, columns, bits, v, torch.zeros_like(v))
    assert levels.isfinite().all()
    decoded = decode_with(reference.uniform_decode, columns, bits, levels, packed)
    assert torch.equal(left, v - decoded)
    step = extremes[1] / (2**bits - 1) - extremes[0] / (2**bits - 1)
    beyond_bfloat16 = 0.005 * extremes[1]
    assert left.abs().max() <= 0.51 * step + beyond_bfloat16 + 1e-37


@pytest.mark.parametrize("encode", encoders())
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("at", [100, 150, 198])
def test_nonfinite_values_show_in_their_groups_levels_only(
    encode: Encoder, bits: int, bad: float, at: int
) -> None:
    columns = Columns.from_lengths([100, 99, 100])
    gradient, residual = make_inputs(columns, torch.float32, 2)
    gradient[at] = bad
    _, levels, _ = encode_with(encode, columns, bits, gradient, residual)
    assert levels.isfinite().tolist() == [[True] * 2, [False] * 2, [True] * 2]


@pytest.mark.parametrize("encode", encoders())
@pytest.mark.parametrize("alias", ["gradient", "residual"])
def test_new_residual_may_overwrite_an_input(encode: Encoder, alias: str) -> None:
    columns = Columns.from_lengths([300, 5, 2048])
    gradient, residual = make_inputs(columns, torch.float32, 1)
    expected = encode_with(encode, columns, 4, gradient, residual)
    target = {"gradient": gradient, "residual": residual}[alias]
    result = encode_with(encode, columns, 4, gradient, residual, target=target)
    for own, other in zip(result, expected, strict=True):
        assert torch.equal(own, other)


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_native_does_not_depend_on_the_number_of_threads(threads: int) -> None:
    columns = Columns.from_lengths([2048, 1000] * 600)
    gradient, residual = make_inputs(columns, torch.float32, 0)
    expected = encode_with(reference.uniform_encode, columns, 2, gradient, residual)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result = encode_with(native.uniform_encode, columns, 2, gradient, residual)
        decoded = decode_with(native.uniform_decode, columns, 2, result[1], result[2])
    finally:
        torch.set_num_threads(before)
    for own, other in zip(result, expected, strict=True):
        assert torch.equal(own, other)
    assert torch.equal(result[0], gradient + residual - decoded)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_operators_pass_opcheck(dtype: torch.dtype, bits: int) -> None:
    columns = Columns.from_lengths([40, 300])
    layout = columns.packed_table(bits)
    gradient, residual = make_inputs(columns, dtype, 3)
    new_residual, levels, packed = encode_with(
        reference.uniform_encode, columns, bits, gradient, residual
    )
    encode = (gradient, 2.0, residual, layout, bits, new_residual, levels, packed)
    torch.library.opcheck(torch.ops.thinwire.uniform_encode.default, encode)
    decode = (levels, packed, layout, bits, residual, True)
    torch.library.opcheck(torch.ops.thinwire.uniform_decode.default, decode)


@pytest.mark.parametrize("encode", [reference.uniform_encode, native.uniform_encode])
def test_what_would_be_misread_is_refused(encode: Encoder) -> None:
    columns = Columns.from_lengths([64])
    good = {
        "gradient": torch.zeros(64),
        "scale": 1.0,
        "residual": torch.zeros(64),
        "layout": columns.packed_table(4),
        "bits": 4,
        "new_residual": torch.zeros(64),
        "levels": torch.zeros(1, 2, dtype=torch.bfloat16),
        "packed": torch.zeros(32, dtype=torch.uint8),
    }
    if encode is reference.uniform_encode or native.available():
        encode(**good)
    bad = {"levels": torch.zeros(1, 2), "bits": 3, "layout": columns.table}
    for name, value in bad.items():
        with pytest.raises((TypeError, ValueError), match="bits" if name == "layout" else name):
            encode(**{**good, name: value})
