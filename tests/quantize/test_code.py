import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinwire.quantize import (
    CODE_NAMES,
    Code,
    Columns,
    ErrorFeedback,
    RotatedSignCode,
    SignCode,
    UniformCode,
    named_code,
)

CODES = [
    *(named_code(name) for name in CODE_NAMES),
    SignCode(torch.float32),
    RotatedSignCode(torch.float32),
]
codes = st.sampled_from(CODES)
lengths = st.lists(st.integers(0, 300), max_size=5)


def encode(code: Code, columns: Columns, feedback: ErrorFeedback) -> torch.Tensor:
    payload = torch.full((code.payload_bytes(columns),), 0xAA, dtype=torch.uint8)
    feedback.encode(code, 1.0, columns, payload)
    return payload


def decode(code: Code, columns: Columns, payload: torch.Tensor) -> torch.Tensor:
    out = torch.full((columns.values,), torch.nan)
    code.decode(payload, columns, out, accumulate=False)
    return out


@given(codes, lengths, st.integers(1, 6), st.integers(0, 2**31))
def test_conservation(code: Code, group_lengths: list[int], steps: int, seed: int) -> None:
    """What was decoded plus what is still carried is what was put in."""
    generator = torch.Generator().manual_seed(seed)
    columns = Columns.from_lengths(group_lengths)
    feedback = ErrorFeedback(columns.values)
    given_in, decoded = torch.zeros(2, columns.values, dtype=torch.float64)
    for _ in range(steps):
        scale = 10 ** float(torch.randint(-3, 4, (1,), generator=generator))
        fresh = scale * torch.randn(columns.values, generator=generator)
        given_in += fresh
        feedback.values.copy_(fresh)
        decoded += decode(code, columns, encode(code, columns, feedback))
        feedback.commit()
    largest = given_in.abs().max().item() if columns.values else 0.0
    torch.testing.assert_close(
        decoded + feedback.residual, given_in, rtol=1e-5, atol=1e-4 * largest + 1e-12
    )


@given(st.lists(st.integers(0, 300), min_size=1, max_size=4), st.integers(0, 2**31))
def test_round_trip_of_two_valued_groups_is_exact(group_lengths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    columns = Columns.from_lengths(group_lengths)
    values = torch.where(torch.rand(columns.values, generator=generator) < 0.5, 0.75, -0.5)
    feedback = ErrorFeedback(columns.values)
    feedback.values.copy_(values)
    payload = encode(SignCode(), columns, feedback)
    assert torch.equal(decode(SignCode(), columns, payload), values)
    assert not feedback.values.any()


@pytest.mark.parametrize("code", CODES)
def test_zero_groups_decode_to_exact_zeros(code: Code) -> None:
    columns = Columns.from_lengths([300, 10, 40])
    feedback = ErrorFeedback(350)
    feedback.values.zero_()
    feedback.values[300:310] = 1.0
    decoded = decode(code, columns, encode(code, columns, feedback))
    assert not decoded[:300].any()
    assert not decoded[310:].any()
    if code.name != "rotated":
        assert decoded[300:310].eq(1).all()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nonfinite_group_is_found(code: Code, bad: float) -> None:
    columns = Columns.from_lengths([30, 40, 50])
    feedback = ErrorFeedback(120)
    feedback.values.copy_(torch.randn(120))
    payload = encode(code, columns, feedback)
    assert code.nonfinite_group(payload, columns) == -1
    feedback.values.copy_(torch.randn(120))
    feedback.values[45] = bad
    payload = encode(code, columns, feedback)
    assert code.nonfinite_group(payload, columns) == 1
    assert not feedback.residual.any(), "an uncommitted step leaves the residual alone"


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_what_an_earlier_code_left_is_sent(name: str) -> None:
    columns, feedback = Columns.from_lengths([30, 40]), ErrorFeedback(70)
    feedback.values.copy_(torch.randn(70))
    encode(named_code("sign"), columns, feedback)
    feedback.commit()
    wanted = feedback.values.normal_() + feedback.residual
    sent = decode(named_code(name), columns, encode(named_code(name), columns, feedback))
    feedback.commit()
    assert torch.equal(sent, wanted.bfloat16().float() if name == "bfloat16" else wanted)
    assert torch.equal(feedback.residual, wanted - sent)


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_large_values_are_finite_although_their_sum_is_not(name: str) -> None:
    columns, code, feedback = Columns.from_lengths([64]), named_code(name), ErrorFeedback(64)
    feedback.values.fill_(3e38)
    assert code.nonfinite_group(encode(code, columns, feedback), columns) == -1


def test_without_feedback_nothing_is_carried() -> None:
    columns = Columns.from_lengths([64])
    feedback = ErrorFeedback(64, enabled=False)
    for _ in range(2):
        feedback.values.copy_(torch.randn(64))
        encode(SignCode(), columns, feedback)
        feedback.commit()
    assert not feedback.residual.any()


def test_wire_size() -> None:
    """Two 16-bit levels a group and one bit a value: the factor the code promises."""
    wide = Columns.from_lengths([2048] * 100)
    assert 4 * wide.values / SignCode().payload_bytes(wide) == pytest.approx(31.5, abs=0.05)
    narrow = Columns.from_lengths([512] * 100)
    assert 4 * narrow.values / SignCode().payload_bytes(narrow) == pytest.approx(30.1, abs=0.05)


@pytest.mark.parametrize(
    ("length", "sizes"),
    [
        (1, {"sign": 8, "rotated": 8, "2-bit": 8, "4-bit": 8, "8-bit": 8}),
        (512, {"sign": 68, "rotated": 68, "2-bit": 132, "4-bit": 260, "8-bit": 516}),
        (784, {"sign": 104, "rotated": 104, "2-bit": 200, "4-bit": 396, "8-bit": 788}),
        (2048, {"sign": 260, "rotated": 264, "2-bit": 516, "4-bit": 1028, "8-bit": 2052}),
    ],
)
def test_wire_size_of_one_group(length: int, sizes: dict[str, int]) -> None:
    columns = Columns.from_lengths([length])
    assert {name: named_code(name).payload_bytes(columns) for name in sizes} == sizes


@given(codes, lengths, st.integers(0, 2**31))
def test_every_byte_of_a_payload_is_written(
    code: Code, group_lengths: list[int], seed: int
) -> None:
    """Packets are compared between workers, and nobody's old memory goes on the wire."""
    columns = Columns.from_lengths(group_lengths)
    v = torch.randn(columns.values, generator=torch.Generator().manual_seed(seed))
    payloads = []
    for filler in (0x00, 0xFF):
        payload = torch.full((code.payload_bytes(columns),), filler, dtype=torch.uint8)
        code.encode(v, 1.0, torch.zeros_like(v), columns, torch.empty_like(v), payload)
        payloads.append(payload)
    assert torch.equal(*payloads)
    assert len(payloads[0]) % 4 == 0


def test_more_bits_leave_less_behind() -> None:
    columns = Columns.from_lengths([784] * 20)
    v = torch.distributions.StudentT(3.0).sample((columns.values,))
    left = []
    for name in ("rotated", "4-bit", "8-bit", "float32"):
        feedback = ErrorFeedback(columns.values)
        feedback.values.copy_(v)
        encode(named_code(name), columns, feedback)
        left.append(float(feedback.values.norm() / v.norm()))
    assert sorted(left, reverse=True) == left


def test_named_code() -> None:
    assert [named_code(name).name for name in CODE_NAMES] == [*CODE_NAMES]
    with pytest.raises(ValueError, match="one of"):
        UniformCode(3)
    assert named_code("sign").name == "sign"
    with pytest.raises(
        ValueError, match="one of sign, float32, bfloat16, rotated, 2-bit, 4-bit, 8-bit, got 'sing'"
    ):
        named_code("sing")
    with pytest.raises(ValueError, match="float64"):
        SignCode(torch.float64)
