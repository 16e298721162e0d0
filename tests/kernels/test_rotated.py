"""The rotated sign code: every native variant against the plain-torch definition."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.kernels.test_kernels import (
    Encoder,
    gradient_dtypes,
    level_dtypes,
    make_inputs,
    needs_native,
    seeds,
)
from thinwire.kernels import native, reference
from thinwire.kernels.schemas import block_counts
from thinwire.quantize import Columns

lengths = st.lists(
    st.one_of(st.integers(0, 70), st.integers(1, 2500), st.sampled_from([256, 512, 513, 784])),
    max_size=5,
)


def encode_with(
    encode: Encoder,
    columns: Columns,
    gradient: Tensor,
    residual: Tensor,
    scale: float = 1.0,
    level_dtype: torch.dtype = torch.float32,
    target: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    new_residual = torch.full_like(residual, 7.0) if target is None else target
    levels = torch.full((int(columns.block_table[2, -1]),), 7.0, dtype=level_dtype)
    bits = torch.full((4 * columns.words,), 7, dtype=torch.uint8)
    encode(gradient, scale, residual, columns.block_table, new_residual, levels, bits)
    return new_residual, levels, bits


def decode_with(decode: Encoder, columns: Columns, levels: Tensor, bits: Tensor) -> Tensor:
    out = torch.full((columns.values,), torch.nan)
    decode(levels, bits, columns.block_table, out, False)
    return out


def native_encoders() -> list[Encoder]:
    return [partial(native.rotated_encode, isa=isa) for isa in native.instruction_sets()]


def encoders() -> list[Encoder]:
    return [reference.rotated_encode, *native_encoders()]


@needs_native
@given(lengths, gradient_dtypes, level_dtypes, seeds, st.sampled_from([1.0, 0.5, 37.0]))
def test_native_encodes_as_the_reference_does(
    group_lengths: list[int],
    dtype: torch.dtype,
    level_dtype: torch.dtype,
    seed: int,
    scale: float,
) -> None:
    columns = Columns.from_lengths(group_lengths)
    gradient, residual = make_inputs(columns, dtype, seed)
    arguments = (columns, gradient, residual, scale, level_dtype)
    expected = encode_with(reference.rotated_encode, *arguments)
    results = [encode_with(variant, *arguments) for variant in native_encoders()]
    for new_residual, levels, bits in results:
        assert torch.equal(bits, expected[2])
        # Coefficients agree to the bit, their means to summation error or a rounding of bfloat16.
        tolerance = 1e-5 if level_dtype == torch.float32 else 2**-7
        torch.testing.assert_close(levels, expected[1], rtol=tolerance, atol=1e-30)
        decoded = decode_with(reference.rotated_decode, columns, levels, bits)
        v = gradient.float() * scale + residual
        assert torch.equal(new_residual, v - decoded)
        for own, first in zip((new_residual, levels, bits), results[0], strict=True):
            assert torch.equal(own, first), "instruction sets must agree to the bit"


@needs_native
@given(lengths, level_dtypes, seeds, st.booleans())
def test_native_decodes_as_the_reference_does(
    group_lengths: list[int], level_dtype: torch.dtype, seed: int, accumulate: bool
) -> None:
    columns = Columns.from_lengths(group_lengths)
    gradient, residual = make_inputs(columns, torch.float32, seed)
    _, levels, bits = encode_with(
        reference.rotated_encode, columns, gradient, residual, level_dtype=level_dtype
    )
    expected = residual.clone()
    reference.rotated_decode(levels, bits, columns.block_table, expected, accumulate)
    for isa in native.instruction_sets():
        out = residual.clone()
        native.rotated_decode(levels, bits, columns.block_table, out, accumulate, isa=isa)
        assert torch.equal(out, expected)


@given(st.integers(1, 1200), seeds)
def test_energy_splits_into_decoded_and_residual(n: int, seed: int) -> None:
    """The rotation is orthogonal and its level the best: |v|^2 = |decoded|^2 + |residual|^2."""
    columns = Columns.from_lengths([n])
    gradient, residual = make_inputs(columns, torch.float32, seed)
    left, levels, bits = encode_with(reference.rotated_encode, columns, gradient, residual)
    decoded = decode_with(reference.rotated_decode, columns, levels, bits)
    whole, parts = (gradient + residual).norm() ** 2, decoded.norm() ** 2 + left.norm() ** 2
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n", [300, 512, 784, 1000, 2048])
def test_a_single_spike_is_kept_as_well_as_a_normal_group(n: int) -> None:
    """What the rotation is for; the sign code would leave more than 0.99 of a spike's energy."""
    columns = Columns.from_lengths([n])
    for at in (0, n // 3, n - 1):
        spike = torch.zeros(n)
        spike[at] = 5.0
        left, _, _ = encode_with(reference.rotated_encode, columns, spike, torch.zeros(n))
        assert left.norm() ** 2 / 25 < 0.45


@pytest.mark.parametrize("encode", encoders())
@pytest.mark.parametrize("alias", ["gradient", "residual"])
def test_new_residual_may_overwrite_an_input(encode: Encoder, alias: str) -> None:
    columns = Columns.from_lengths([300, 5, 2048])
    gradient, residual = make_inputs(columns, torch.float32, 1)
    expected = encode_with(encode, columns, gradient, residual)
    target = {"gradient": gradient, "residual": residual}[alias]
    result = encode_with(encode, columns, gradient, residual, target=target)
    for own, other in zip(result, expected, strict=True):
        assert torch.equal(own, other)


@pytest.mark.parametrize("encode", encoders())
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("at", [400, 700, 1183])
def test_nonfinite_values_show_in_their_groups_levels_only(
    encode: Encoder, bad: float, at: int
) -> None:
    columns = Columns.from_lengths([400, 784, 40])
    gradient, residual = make_inputs(columns, torch.float32, 2)
    gradient[at] = bad
    _, levels, _ = encode_with(encode, columns, gradient, residual, level_dtype=torch.bfloat16)
    of_group = levels.isfinite().split(columns.block_table[2].diff().tolist())
    assert [bool(group.all()) for group in of_group] == [True, False, True]


@pytest.mark.parametrize("encode", encoders())
def test_zero_groups_and_lone_values_are_exact(encode: Encoder) -> None:
    columns = Columns.from_lengths([784, 1, 40, 1])
    v = torch.zeros(columns.values)
    v[784], v[825] = 0.75, -3.0
    left, levels, bits = encode_with(encode, columns, v, torch.zeros_like(v))
    assert not left.any()
    assert torch.equal(decode_with(reference.rotated_decode, columns, levels, bits), v)


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_native_does_not_depend_on_the_number_of_threads(threads: int) -> None:
    columns = Columns.from_lengths([2048, 1000] * 600)
    gradient, residual = make_inputs(columns, torch.float32, 0)
    expected = encode_with(native_encoders()[0], columns, gradient, residual)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result = encode_with(native.rotated_encode, columns, gradient, residual)
        decoded = decode_with(native.rotated_decode, columns, result[1], result[2])
    finally:
        torch.set_num_threads(before)
    for own, other in zip(result, expected, strict=True):
        assert torch.equal(own, other)
    assert torch.equal(result[0], gradient + residual - decoded)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operators_pass_opcheck(dtype: torch.dtype) -> None:
    columns = Columns.from_lengths([40, 300])
    gradient, residual = make_inputs(columns, dtype, 3)
    new_residual, levels, bits = encode_with(reference.rotated_encode, columns, gradient, residual)
    encode = (gradient, 2.0, residual, columns.block_table, new_residual, levels, bits)
    torch.library.opcheck(torch.ops.thinwire.rotated_encode.default, encode)
    decode = (levels, bits, columns.block_table, residual, True)
    torch.library.opcheck(torch.ops.thinwire.rotated_decode.default, decode)


@pytest.mark.parametrize("encode", [reference.rotated_encode, native.rotated_encode])
def test_what_would_be_misread_is_refused(encode: Encoder) -> None:
    columns = Columns.from_lengths([600])
    good = {
        "gradient": torch.zeros(600),
        "scale": 1.0,
        "residual": torch.zeros(600),
        "layout": columns.block_table,
        "new_residual": torch.zeros(600),
        "levels": torch.zeros(2),
        "bits": torch.zeros(76, dtype=torch.uint8),
    }
    if encode is reference.rotated_encode or native.available():
        encode(**good)
    bad = {
        "levels": torch.zeros(3),
        "bits": torch.zeros(72, dtype=torch.uint8),
        "layout": columns.table,
    }
    for name, tensor in bad.items():
        with pytest.raises(ValueError, match=name):
            encode(**{**good, name: tensor})


@given(st.integers(1, 5000))
def test_blocks_cover_the_group_and_cost_no_more_than_promised(n: int) -> None:
    count, block = (int(number) for number in block_counts(torch.tensor(n)))
    assert block <= min(n, 512) < 2 * block or block == 512
    assert (count - 1) * block < n <= count * block
