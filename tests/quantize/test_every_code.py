"""What every code does, on every back end and from every dtype of gradient."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.kernels.calls import inputs
from tests.quantize.cases import CASES, CODES, decoded, encoded, payload_for
from thinwire.quantize import Code, Columns, ErrorFeedback

every_case = pytest.mark.parametrize("code", CASES.values(), ids=[*CASES])
every_code = pytest.mark.parametrize("code", CODES.values(), ids=[*CODES])
FOR_DEVICES = CODES | {name: code for name, code in CASES.items() if name.endswith("reference")}
few_shapes = settings(max_examples=20)
lengths = st.lists(st.integers(0, 300) | st.sampled_from([513, 784, 2048]), max_size=5)
seeds = st.integers(0, 2**31)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@few_shapes
@given(lengths, seeds, st.sampled_from([1.0, 0.5, 37.0]))
def test_the_residual_is_what_decoding_leaves(
    code: Code, dtype: torch.dtype, group_lengths: list[int], seed: int, scale: float
) -> None:
    """v = scale * gradient + residual; new residual = v - decoded(v), to the bit."""
    columns = Columns.from_lengths(group_lengths)
    gradient, residual = inputs(columns, dtype, seed)
    payload, left = payload_for(code, columns), torch.full_like(residual, 7.0)
    given_ = gradient.clone(), residual.clone()
    code.encode(gradient, scale, residual, columns, left, payload)
    v = gradient.float() * scale + residual
    assert torch.equal(left, v - decoded(code, columns, payload))
    assert torch.equal(gradient, given_[0])
    assert torch.equal(residual, given_[1])


@every_case
@few_shapes
@given(lengths, st.integers(1, 6), seeds)
def test_conservation(code: Code, group_lengths: list[int], steps: int, seed: int) -> None:
    """What was decoded plus what is still carried is what was put in."""
    generator = torch.Generator().manual_seed(seed)
    columns = Columns.from_lengths(group_lengths)
    feedback, payload = ErrorFeedback(columns.values), payload_for(code, columns)
    given_in, sent = torch.zeros(2, columns.values, dtype=torch.float64)
    for _ in range(steps):
        scale = 10 ** float(torch.randint(-3, 4, (1,), generator=generator))
        feedback.values.copy_(scale * torch.randn(columns.values, generator=generator))
        given_in += feedback.values
        feedback.encode(code, 1.0, columns, payload)
        sent += decoded(code, columns, payload)
        feedback.commit()
    largest = given_in.abs().max().item() if columns.values else 0.0
    torch.testing.assert_close(
        sent + feedback.residual, given_in, rtol=1e-5, atol=1e-4 * largest + 1e-12
    )


@every_case
@pytest.mark.parametrize("alias", ["gradient", "residual"])
def test_the_new_residual_may_overwrite_an_input(code: Code, alias: str) -> None:
    columns = Columns.from_lengths([300, 5, 2048])
    gradient, residual = inputs(columns, torch.float32, 1)
    apart, together = payload_for(code, columns), payload_for(code, columns)
    left = torch.empty_like(residual)
    code.encode(gradient, 2.0, residual, columns, left, apart)
    target = {"gradient": gradient, "residual": residual}[alias]
    code.encode(gradient, 2.0, residual, columns, target, together)
    assert torch.equal(target, left)
    assert torch.equal(apart, together)


@every_case
@few_shapes
@given(lengths, st.integers(1, 5), seeds)
def test_a_sum_is_decoding_in_turn(
    code: Code, group_lengths: list[int], count: int, seed: int
) -> None:
    columns = Columns.from_lengths(group_lengths)
    payloads = [
        encoded(code, columns, sum(inputs(columns, torch.float32, seed + k))) for k in range(count)
    ]
    summed, expected = torch.full((2, columns.values), torch.nan)
    code.sum(payloads, columns, summed)
    for k, payload in enumerate(payloads):
        code.decode(payload, columns, expected, accumulate=k > 0)
    assert torch.equal(summed, expected)


@every_case
@pytest.mark.parametrize("accumulate", [False, True])
def test_a_divisor_divides(code: Code, accumulate: bool) -> None:
    columns = Columns.from_lengths([300, 784, 1, 40])
    payload = encoded(code, columns, inputs(columns, torch.float32, 0)[1])
    before = payload.clone()
    divided = torch.ones(columns.values)
    code.decode(payload, columns, divided, accumulate, divisor=3.0)
    torch.testing.assert_close(divided, accumulate + decoded(code, columns, payload) / 3.0)
    assert torch.equal(payload, before), "others decode the same bytes"


@every_case
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_group_that_is_not_finite_is_found(code: Code, bad: float) -> None:
    columns, feedback = Columns.from_lengths([30, 0, 700, 1, 50]), ErrorFeedback(781)
    payload = payload_for(code, columns)
    feedback.values.copy_(inputs(columns, torch.float32, 0)[1])
    feedback.encode(code, 1.0, columns, payload)
    assert code.nonfinite_group(payload, columns) == -1
    for at, group in ((0, 0), (45, 2), (400, 2), (729, 2), (730, 3), (780, 4)):
        feedback.values.copy_(inputs(columns, torch.float32, 0)[1])
        feedback.values[at] = bad
        feedback.encode(code, 1.0, columns, payload)
        assert code.nonfinite_group(payload, columns) == group
    assert not feedback.residual.any(), "an uncommitted step leaves the residual alone"


@every_case
def test_groups_of_zeros_stay_zeros(code: Code) -> None:
    columns = Columns.from_lengths([300, 10, 40])
    values = torch.zeros(350)
    values[300:310] = 1.0
    sent = decoded(code, columns, encoded(code, columns, values))
    assert not sent[:300].any()
    assert not sent[310:].any()
    if code.name != "rotated":
        assert sent[300:310].eq(1).all()


@every_case
@few_shapes
@given(lengths, seeds)
def test_every_byte_of_a_payload_is_written(
    code: Code, group_lengths: list[int], seed: int
) -> None:
    """Packets are compared between workers, and nobody's old memory goes on the wire."""
    columns = Columns.from_lengths(group_lengths)
    v = inputs(columns, torch.float32, seed)[1]
    payloads = [payload_for(code, columns, filler) for filler in (0x00, 0xFF)]
    for payload in payloads:
        code.encode(v, 1.0, torch.zeros_like(v), columns, torch.empty_like(v), payload)
    assert torch.equal(*payloads)
    assert len(payloads[0]) % 4 == 0


@pytest.mark.parametrize("code", FOR_DEVICES.values(), ids=[*FOR_DEVICES])
def test_nothing_waits_for_a_device(code: Code) -> None:
    """A tensor on the meta device has no values: reading one on the host raises."""
    columns = Columns.from_lengths([300, 40]).to("meta")
    gradient, residual, left, out = torch.empty(4, columns.values, device="meta")
    payload = payload_for(code, columns)
    code.encode(gradient, 2.0, residual, columns, left, payload)
    for divisor in (1.0, 3.0):
        for accumulate in (False, True):
            code.decode(payload, columns, out, accumulate, divisor)
    code.sum([payload] * 3, columns, out)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        code.nonfinite_group(payload, columns)  # the one that waits


@every_code
def test_codes_are_copied_and_stored(code: Code) -> None:
    """As optimisers' param groups are."""
    columns = Columns.from_lengths([300, 40])
    values = inputs(columns, torch.float32, 0)[1]
    expected = encoded(code, columns, values)
    assert torch.equal(encoded(copy.deepcopy(code), columns, values), expected)
    if code.name != "ternary":  # its module is not importable from here
        again: Code = pickle.loads(pickle.dumps(code))
        assert torch.equal(encoded(again, columns, values), expected)


def energy_left(code: Code, columns: Columns, v: Tensor) -> float:
    return float((v - decoded(code, columns, encoded(code, columns, v))).norm() / v.norm())


def test_more_bits_leave_less_behind() -> None:
    columns = Columns.from_lengths([784] * 20)
    generator = torch.Generator().manual_seed(0)
    normal, chi = torch.randn(2, 4, columns.values, generator=generator)
    v = normal[0] / (chi[:3].square().mean(0)).sqrt()  # Student's t, three degrees of freedom
    by_bits = ("rotated", "4-bit", "8-bit", "bfloat16", "float32")
    left = [energy_left(CODES[name], columns, v) for name in by_bits]
    assert sorted(left, reverse=True) == left
    assert left[-1] == 0
