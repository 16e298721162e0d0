"""Every native variant against the plain-torch definition."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from thinwire import kernels
from thinwire.kernels import native, reference
from thinwire.quantize import Columns

lengths = st.lists(
    st.one_of(st.integers(0, 70), st.sampled_from([255, 256, 784, 2048, 4097, 9000])), max_size=6
)
gradient_dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
level_dtypes = st.sampled_from([torch.float32, torch.bfloat16])
seeds = st.integers(0, 2**31)
needs_native = pytest.mark.skipif(not native.available(), reason="built without a compiler")

Encoder = Callable[..., None]


def make_inputs(
    columns: Columns, dtype: torch.dtype, seed: int, zeros: float = 0.1
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, columns.values, generator=generator)
    values[torch.rand(values.shape, generator=generator) < zeros] = 0
    return values[0].to(dtype), values[1].clone()


def encode_with(
    encode: Encoder,
    columns: Columns,
    gradient: Tensor,
    residual: Tensor,
    scale: float = 1.0,
    level_dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    new_residual = torch.full_like(residual, 7.0)
    levels = torch.full((columns.groups, 2), 7.0, dtype=level_dtype)
    bits = torch.full((4 * columns.words,), 7, dtype=torch.uint8)
    encode(gradient, scale, residual, columns.table, new_residual, levels, bits)
    return new_residual, levels, bits


def native_variants() -> list[Encoder]:
    return [partial(native.sign_encode, isa=isa) for isa in native.instruction_sets()]


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
    expected = encode_with(reference.sign_encode, *arguments)
    results = [encode_with(variant, *arguments) for variant in native_variants()]
    for new_residual, levels, bits in results:
        assert torch.equal(bits, expected[2])
        # One rounding of bfloat16 may go the other way; float32 levels agree to summation error.
        tolerance = 1e-5 if level_dtype == torch.float32 else 2**-7
        torch.testing.assert_close(levels, expected[1], rtol=tolerance, atol=1e-30)
        largest = expected[1].float().abs().max().item() if columns.groups else 0.0
        torch.testing.assert_close(
            new_residual, expected[0], rtol=1e-5, atol=tolerance * largest + 1e-30
        )
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
        reference.sign_encode, columns, gradient, residual, level_dtype=level_dtype
    )
    expected = residual.clone()
    reference.sign_decode(levels, bits, columns.table, expected, accumulate)
    for isa in native.instruction_sets():
        out = residual.clone()
        native.sign_decode(levels, bits, columns.table, out, accumulate, isa=isa)
        assert torch.equal(out, expected)


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_native_does_not_depend_on_the_number_of_threads(threads: int) -> None:
    columns = Columns.from_lengths([2048, 1000] * 600)
    gradient, residual = make_inputs(columns, torch.float32, 0)
    expected = encode_with(reference.sign_encode, columns, gradient, residual)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result = encode_with(native.sign_encode, columns, gradient, residual)
        decoded = torch.empty(columns.values)
        native.sign_decode(result[1], result[2], columns.table, decoded, False)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(result[2], expected[2])
    torch.testing.assert_close(result[0] + decoded, gradient + residual, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("encode", [reference.sign_encode, *native_variants()])
@pytest.mark.parametrize("alias", ["gradient", "residual"])
def test_new_residual_may_overwrite_an_input(encode: Encoder, alias: str) -> None:
    columns = Columns.from_lengths([300, 5, 2048])
    gradient, residual = make_inputs(columns, torch.float32, 1)
    expected = encode_with(encode, columns, gradient, residual)
    target = {"gradient": gradient, "residual": residual}[alias]
    levels = torch.empty(columns.groups, 2)
    bits = torch.empty(4 * columns.words, dtype=torch.uint8)
    encode(gradient, 1.0, residual, columns.table, target, levels, bits)
    for own, other in zip((target, levels, bits), expected, strict=True):
        assert torch.equal(own, other)


@pytest.mark.parametrize("encode", [reference.sign_encode, *native_variants()])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nonfinite_values_show_in_their_groups_levels_only(encode: Encoder, bad: float) -> None:
    columns = Columns.from_lengths([100, 100, 100])
    gradient, residual = make_inputs(columns, torch.float32, 2)
    gradient[150] = bad
    _, levels, _ = encode_with(encode, columns, gradient, residual, level_dtype=torch.bfloat16)
    assert levels.isfinite().all(dim=1).tolist() == [True, False, True]


@pytest.mark.parametrize("encode", [reference.sign_encode, *native_variants()])
def test_levels_are_the_means_of_each_side(encode: Encoder) -> None:
    columns = Columns.from_lengths([5, 3])
    gradient = torch.tensor([1.0, -2.0, 3.0, 0.0, -0.0, -1.0, -3.0, -5.0])
    new_residual, levels, bits = encode_with(encode, columns, gradient, torch.zeros(8))
    assert levels.tolist() == [[-2.0, 1.0], [-3.0, 0.0]]
    assert bits.tolist() == [0b11101, 0, 0, 0, 0, 0, 0, 0]
    assert new_residual.tolist() == [0.0, 0.0, 2.0, -1.0, -1.0, 2.0, 0.0, -2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operators_pass_opcheck(dtype: torch.dtype) -> None:
    columns = Columns.from_lengths([40, 300])
    gradient, residual = make_inputs(columns, dtype, 3)
    levels = torch.empty(columns.groups, 2, dtype=torch.bfloat16)
    bits = torch.empty(4 * columns.words, dtype=torch.uint8)
    new_residual = torch.empty_like(residual)
    encode = (gradient, 2.0, residual, columns.table, new_residual, levels, bits)
    torch.library.opcheck(torch.ops.thinwire.sign_encode.default, encode)
    torch.ops.thinwire.sign_encode(*encode)
    decode = (levels, bits, columns.table, residual, True)
    torch.library.opcheck(torch.ops.thinwire.sign_decode.default, decode)


@needs_native
def test_native_refuses_what_it_would_misread() -> None:
    columns = Columns.from_lengths([64])
    good = {
        "gradient": torch.zeros(64),
        "scale": 1.0,
        "residual": torch.zeros(64),
        "layout": columns.table,
        "new_residual": torch.zeros(64),
        "levels": torch.zeros(1, 2),
        "bits": torch.zeros(8, dtype=torch.uint8),
    }
    native.sign_encode(**good)  # type: ignore[arg-type]
    bad = {
        "gradient": torch.zeros(64, dtype=torch.float64),
        "residual": torch.zeros(128)[::2],
        "new_residual": torch.zeros(63),
        "levels": torch.zeros(2, 1),
        "bits": torch.zeros(4, dtype=torch.uint8),
        "layout": columns.table.to(torch.int32),
    }
    for name, tensor in bad.items():
        with pytest.raises((TypeError, ValueError), match=name):
            native.sign_encode(**{**good, name: tensor})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="instruction set 'sse9'"):
        native.sign_encode(**good, isa="sse9")  # type: ignore[arg-type]


def test_active_names_what_serves_cpu_tensors() -> None:
    expected = "native" if native.available() else "reference"
    assert kernels.active().startswith(expected)
