"""What the kernels of every family do alike: every back end against the plain-torch definition."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import thinwire
from tests.kernels.calls import (
    CUDA,
    FAMILY_BITS,
    NATIVE,
    TRITON,
    Kernels,
    decode,
    encode,
    every_back_end,
    gradient_types,
    inputs,
    layout_of,
    lengths,
    needs_native,
    outputs,
    seeds,
    triton_back_ends,
)
from thinwire import kernels
from thinwire.kernels import FAMILIES, OPERATORS, native, reference, triton_kernels
from thinwire.quantize import Columns

family_bits = st.sampled_from(FAMILY_BITS)
LONG = [2048, 5000, 784, 1000, 17] * 10  # 88 490 values: aligned groups, others, long ones
THREADED = [2048, 1000] * 600  # enough values for several threads


def with_level_types() -> list[tuple[str, int, torch.dtype]]:
    return [(f, bits, kind) for f, bits in FAMILY_BITS for kind in FAMILIES[f].level_types]


def encodes_as_the_reference_does(
    back_ends: Iterable[Kernels],
    row: tuple[str, int, torch.dtype],
    group_lengths: list[int],
    dtype: torch.dtype,
    seed: int,
    scale: float,
    *,
    tolerance: float,
) -> None:
    """The same bits and levels, and nothing lost: what is not decoded is left for the next step."""
    family, bits, level_type = row
    if family != "uniform":
        scale = min(max(scale, 0.5), 37.0)  # their sums would overflow
    columns = Columns.from_lengths(group_lengths)
    gradient, residual = inputs(columns, dtype, seed)
    residual *= scale
    arguments = (family, bits, columns, gradient, residual)
    given_ = {"scale": scale, "level_type": level_type}
    _, levels, packed = encode(reference.KERNELS, *arguments, **given_)
    results = [encode(kernels, *arguments, **given_) for kernels in back_ends]
    v = gradient.float() * scale + residual
    for own_residual, own_levels, own_packed in results:
        if family == "uniform":
            assert torch.equal(own_levels, levels)
        else:
            # Means: a few roundings of float32 in a sum of lanes, or one of bfloat16. Below the
            # normal numbers a rounding is of an absolute size.
            relative = tolerance if level_type == torch.float32 else 2**-7
            torch.testing.assert_close(own_levels, levels, rtol=relative, atol=1e-38)
        assert torch.equal(own_packed, packed)
        decoded = decode(reference.KERNELS, family, bits, columns, own_levels, own_packed)
        assert torch.equal(own_residual, v - decoded)
        for own, first in zip((own_residual, own_levels, own_packed), results[0], strict=True):
            assert torch.equal(own, first), "instruction sets must agree to the bit"


rows = st.sampled_from(with_level_types())
scales = st.sampled_from([1.0, 0.5, 0.1, 1e-30, 1e-38, 37.0, 1e37])


@needs_native
@given(rows, lengths, gradient_types, seeds, scales)
def test_native_encodes_as_the_reference_does(
    row: tuple[str, int, torch.dtype],
    group_lengths: list[int],
    dtype: torch.dtype,
    seed: int,
    scale: float,
) -> None:
    encodes_as_the_reference_does(
        NATIVE.values(), row, group_lengths, dtype, seed, scale, tolerance=1e-5
    )


@triton_back_ends
@hypothesis.settings(max_examples=20)
@given(rows, lengths, gradient_types, seeds, scales)
def test_triton_encodes_as_the_reference_does(
    back_end: Kernels,
    row: tuple[str, int, torch.dtype],
    group_lengths: list[int],
    dtype: torch.dtype,
    seed: int,
    scale: float,
) -> None:
    encodes_as_the_reference_does(
        [back_end], row, group_lengths, dtype, seed, scale, tolerance=1e-6
    )


def decodes_as_the_reference_does(
    back_ends: Iterable[Kernels],
    row: tuple[str, int, torch.dtype],
    group_lengths: list[int],
    seed: int,
    accumulate: bool,
) -> None:
    family, bits, level_type = row
    columns = Columns.from_lengths(group_lengths)
    gradient, residual = inputs(columns, torch.float32, seed)
    _, levels, packed = encode(
        reference.KERNELS, family, bits, columns, gradient, residual, level_type=level_type
    )
    arguments = (levels, packed, layout_of(family, bits, columns), bits)
    expected = residual.clone()
    reference.KERNELS[f"{family}_decode"](*arguments, expected, accumulate)
    for back_end in back_ends:
        out = residual.clone()
        back_end[f"{family}_decode"](*arguments, out, accumulate)
        assert torch.equal(out, expected)


@needs_native
@given(rows, lengths, seeds, st.booleans())
def test_native_decodes_as_the_reference_does(
    row: tuple[str, int, torch.dtype], group_lengths: list[int], seed: int, accumulate: bool
) -> None:
    decodes_as_the_reference_does(NATIVE.values(), row, group_lengths, seed, accumulate)


@triton_back_ends
@hypothesis.settings(max_examples=20)
@given(rows, lengths, seeds, st.booleans())
def test_triton_decodes_as_the_reference_does(
    back_end: Kernels,
    row: tuple[str, int, torch.dtype],
    group_lengths: list[int],
    seed: int,
    accumulate: bool,
) -> None:
    decodes_as_the_reference_does([back_end], row, group_lengths, seed, accumulate)


def random_packets(
    family: str, bits: int, columns: Columns, count: int, seed: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Levels and packed values of any bytes."""
    generator = torch.Generator().manual_seed(seed)
    packets = [outputs(family, bits, columns) for _ in range(count)]
    levels = [of_packet.normal_(generator=generator) for of_packet, _ in packets]
    return levels, [codes.random_(0, 256, generator=generator) for _, codes in packets]


@every_back_end
@pytest.mark.parametrize(("family", "bits"), FAMILY_BITS)
def test_a_sum_is_packets_decoded_in_turn(family: str, bits: int, back_end: Kernels) -> None:
    """To the bit, whatever bytes they are made of."""
    sums_packets_in_turn(back_end, family, bits, Columns.from_lengths([300, 784, 1, 40, 5000]), 3)


@triton_back_ends
@hypothesis.settings(max_examples=15)
@given(family_bits, st.lists(st.integers(0, 900), max_size=3), st.sampled_from([1, 2, 8, 9, 17]))
def test_triton_sums_any_number_of_packets_in_turn(
    back_end: Kernels, row: tuple[str, int], group_lengths: list[int], packets: int
) -> None:
    sums_packets_in_turn(back_end, *row, Columns.from_lengths(group_lengths), packets)


def sums_packets_in_turn(
    back_end: Kernels, family: str, bits: int, columns: Columns, count: int
) -> None:
    levels, packed = random_packets(family, bits, columns, count, 0)
    layout = layout_of(family, bits, columns)
    summed, expected = torch.empty(2, columns.values)
    back_end[f"{family}_sum"](levels, packed, layout, bits, summed)
    for k in range(count):
        reference.KERNELS[f"{family}_decode"](levels[k], packed[k], layout, bits, expected, k > 0)
    assert torch.equal(summed, expected)


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("family", "bits"), FAMILY_BITS)
def test_the_number_of_threads_changes_nothing(family: str, bits: int, threads: int) -> None:
    columns = Columns.from_lengths(THREADED)
    gradient, residual = inputs(columns, torch.float32, 0)
    layout = layout_of(family, bits, columns)
    before = torch.get_num_threads()

    def run() -> list[Tensor]:
        new_residual, levels, packed = encode(
            native.KERNELS, family, bits, columns, gradient, residual
        )
        decoded = decode(native.KERNELS, family, bits, columns, levels, packed)
        summed = torch.empty_like(decoded)
        native.KERNELS[f"{family}_sum"]([levels] * 3, [packed] * 3, layout, bits, summed)
        return [new_residual, levels, packed, decoded, summed]

    torch.set_num_threads(1)
    try:
        expected = run()
        torch.set_num_threads(threads)
        result = run()
    finally:
        torch.set_num_threads(before)
    for own, other in zip(result, expected, strict=True):
        assert torch.equal(own, other)
    assert torch.equal(result[0], gradient + residual - result[3])


@every_back_end
@pytest.mark.parametrize("alias", ["gradient", "residual"])
@pytest.mark.parametrize(("family", "bits"), FAMILY_BITS)
def test_the_new_residual_may_overwrite_an_input(
    family: str, bits: int, alias: str, back_end: Kernels
) -> None:
    columns = Columns.from_lengths([300, 5, 2048])
    gradient, residual = inputs(columns, torch.float32, 1)
    arguments = (back_end, family, bits, columns, gradient, residual)
    expected = encode(*arguments)
    result = encode(*arguments, target={"gradient": gradient, "residual": residual}[alias])
    for own, other in zip(result, expected, strict=True):
        assert torch.equal(own, other)


@needs_native
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("back_end", NATIVE.values(), ids=[*NATIVE])
@pytest.mark.parametrize(("family", "bits"), FAMILY_BITS)
def test_stores_past_the_caches_change_nothing(
    family: str, bits: int, back_end: Kernels, aligned: bool
) -> None:
    """Much memory of its own is written past the caches, an input's own memory never is."""
    columns = Columns.from_lengths(LONG)
    gradient, residual = inputs(columns, torch.float32, 0)
    own = torch.empty(2, columns.values + 16)[:, 0 if aligned else 1 :][:, : columns.values]
    arguments = (back_end, family, bits, columns, gradient, residual)
    streamed = [part.clone() for part in encode(*arguments, scale=0.5, target=own[0])]
    in_place = encode(*arguments, scale=0.5, target=gradient)
    for one, other in zip(streamed, in_place, strict=True):
        assert torch.equal(one, other)
    added, layout = torch.zeros(columns.values), layout_of(family, bits, columns)
    back_end[f"{family}_decode"](*streamed[1:], layout, bits, own[1], False)
    back_end[f"{family}_decode"](*streamed[1:], layout, bits, added, True)
    assert torch.equal(own[1], added)


@every_back_end
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("at", [400, 700, 1183])
@pytest.mark.parametrize(("family", "bits"), FAMILY_BITS)
def test_nonfinite_values_show_in_their_groups_levels_only(
    family: str, bits: int, bad: float, at: int, back_end: Kernels
) -> None:
    columns = Columns.from_lengths([400, 784, 40])
    gradient, residual = inputs(columns, torch.float32, 2)
    gradient[at] = bad
    _, levels, _ = encode(back_end, family, bits, columns, gradient, residual)
    counts = [2] * 3
    if FAMILIES[family].layout_rows == 3:
        counts = columns.block_table[2].diff().tolist()
    finite = [bool(part.isfinite().all()) for part in levels.view(-1).split(counts)]
    assert finite == [True, False, True]


def call_of(what: str, family: str, bits: int, dtype: torch.dtype) -> dict[str, Any]:
    """The arguments of one operator, by name."""
    columns = Columns.from_lengths([40, 300])
    gradient, residual = inputs(columns, dtype, 3)
    new_residual, levels, packed = encode(
        reference.KERNELS, family, bits, columns, gradient, residual
    )
    common = {"layout": layout_of(family, bits, columns), "bits": bits}
    if what == "encode":
        given_ = {"gradient": gradient, "scale": 2.0, "residual": residual, **common}
        return {**given_, "new_residual": new_residual, "levels": levels, "packed": packed}
    if what == "decode":
        packet = {"levels": levels, "packed": packed}
        return {**packet, **common, "out": residual, "accumulate": True}
    return {"levels": [levels] * 2, "packed": [packed] * 2, **common, "out": residual}


def moved(argument: Any, device: str) -> Any:
    if isinstance(argument, list):
        return [moved(part, device) for part in argument]
    return argument.to(device) if isinstance(argument, Tensor) else argument


on_cuda = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not CUDA, reason="no CUDA device is here")],
)


@pytest.mark.parametrize("device", ["cpu", on_cuda])
@pytest.mark.parametrize("what", ["encode", "decode", "sum"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "bits"), FAMILY_BITS)
def test_operators_pass_opcheck(
    family: str, bits: int, dtype: torch.dtype, what: str, device: str
) -> None:
    arguments = [moved(given_, device) for given_ in call_of(what, family, bits, dtype).values()]
    torch.library.opcheck(OPERATORS[f"{family}_{what}"], tuple(arguments))


@pytest.mark.gpu
@pytest.mark.skipif(not CUDA, reason="no CUDA device is here")
@pytest.mark.parametrize("what", ["encode", "decode", "sum"])
@pytest.mark.parametrize(("family", "bits"), FAMILY_BITS)
def test_operators_never_wait_for_a_gpu(family: str, bits: int, what: str) -> None:
    on_host = call_of(what, family, bits, torch.float32)
    arguments = [moved(argument, "cuda") for argument in on_host.values()]
    operator = OPERATORS[f"{family}_{what}"]
    operator(*arguments)  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        operator(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("what", ["encode", "decode", "sum"])
@pytest.mark.parametrize(("family", "bits"), FAMILY_BITS)
def test_the_reference_never_waits_for_a_device(family: str, bits: int, what: str) -> None:
    """A tensor on the meta device has no values: reading one on the host raises."""
    on_host = call_of(what, family, bits, torch.float32)
    arguments = {name: moved(argument, "meta") for name, argument in on_host.items()}
    with pytest.raises(RuntimeError, match="meta"):
        arguments["layout"].max().item()  # so a read would be noticed
    reference.KERNELS[f"{family}_{what}"](*arguments.values())


@pytest.mark.parametrize("back_end", ["reference", "native", "triton"])
@pytest.mark.parametrize(("family", "bits"), FAMILY_BITS)
def test_what_would_be_misread_is_refused(family: str, bits: int, back_end: str) -> None:
    modules: dict[str, Any] = {"native": native, "triton": triton_kernels}
    if back_end in modules and not modules[back_end].available():
        pytest.skip("built without a compiler, or triton is not installed")
    modules["reference"] = reference
    work = modules[back_end].KERNELS[f"{family}_encode"]
    good = call_of("encode", family, bits, torch.float32)
    if back_end != "triton" or not CUDA:
        work(*good.values())
    rows, groups = good["layout"].shape
    bad: dict[str, list[Any]] = {
        "levels": [good["levels"][:-1], good["levels"].double()],
        "packed": [good["packed"][:-4]],
        "bits": [3],
        "layout": [good["layout"].int(), torch.zeros(rows + 1, groups, dtype=torch.int64)],
        "gradient": [good["gradient"][:-1]],
    }
    if back_end != "reference":  # they take addresses; torch would convert or refuse by itself
        bad["gradient"].append(good["gradient"].double())
        bad["residual"] = [torch.zeros(680)[::2], torch.zeros(339)]
        bad["new_residual"] = [torch.zeros(339), torch.zeros(340).double()]
        bad["packed"].append(good["packed"].to(torch.int8))
        bad["levels"].append(good["levels"].repeat_interleave(2, 0)[::2])
    for name, values in bad.items():
        for value in values:
            with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
                work(*{**good, name: value}.values())


@pytest.mark.parametrize(
    "back_end", [pytest.param(native.KERNELS, id="native", marks=needs_native), TRITON[0]]
)
def test_mistakes_in_a_sum_are_named(back_end: Kernels) -> None:
    columns = Columns.from_lengths([40])
    levels, packed = torch.zeros(1, 2), torch.zeros(8, dtype=torch.uint8)
    wrong: list[tuple[type[Exception], str, Callable[[], None]]] = [
        (ValueError, "at least one", lambda: call([], [])),
        (ValueError, "packed", lambda: call([levels], [packed[:4]])),
        (TypeError, "levels", lambda: call([levels, levels.bfloat16()], [packed, packed])),
    ]

    def call(all_levels: list[Tensor], all_packed: list[Tensor]) -> None:
        back_end["sign_sum"](all_levels, all_packed, columns.table, 1, torch.empty(40))

    for kind, said, mistake in wrong:
        with pytest.raises(kind, match=said):
            mistake()


@needs_native
def test_an_unknown_instruction_set_is_refused() -> None:
    arguments = call_of("encode", "sign", 1, torch.float32)
    with pytest.raises(ValueError, match="instruction set 'sse9'"):
        native.KERNELS["sign_encode"](*arguments.values(), isa="sse9")


def test_active_names_what_serves_a_device() -> None:
    expected = "native" if native.available() else "reference"
    assert kernels.active().startswith(expected)
    assert kernels.active("cuda") == ("triton" if triton_kernels.available() else "reference")
    assert kernels.active("meta") == "reference"


def test_a_missing_back_end_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.native, "available", lambda: False)
    kernels.warn_if_slow.cache_clear()
    parameters = [("w", torch.nn.Parameter(torch.ones(3)))]
    with pytest.warns(RuntimeWarning, match="without its compiled kernels"):
        thinwire.OneBitSGD(parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thinwire.OneBitSGD(parameters)
    kernels.warn_if_slow.cache_clear()
