import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.quantize.cases import payload_for
from thinwire.quantize import Columns, ErrorFeedback, SignCode, named_code


def test_without_feedback_nothing_is_carried() -> None:
    columns, code = Columns.from_lengths([64]), SignCode()
    feedback = ErrorFeedback(64, part=False)
    for _ in range(2):
        feedback.values.copy_(torch.randn(64))
        feedback.encode(code, 1.0, columns, payload_for(code, columns))
        feedback.commit()
    assert not feedback.residual.any()


@given(
    part=st.sampled_from([0.25, 0.5, 0.8, 1.0]),
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    name=st.sampled_from(["sign", "rotated", "2-bit", "4-bit"]),
    kept=st.lists(st.booleans(), min_size=1, max_size=6),
)
def test_what_was_said_is_carried_or_forgotten_is_what_was_put_in(
    part: float, lengths: list[int], name: str, kept: list[bool]
) -> None:
    columns, code = Columns.from_lengths(lengths), named_code(name)
    n = columns.values
    generator = torch.Generator().manual_seed(n)
    feedback = ErrorFeedback(n, part=part)
    given, said, forgotten = (torch.zeros(n, dtype=torch.float64) for _ in range(3))
    for keep in kept:
        fresh = torch.randn(n, generator=generator)
        feedback.values.copy_(fresh)
        payload, decoded = payload_for(code, columns), torch.empty(n)
        feedback.encode(code, 1.0, columns, payload)
        if not keep:
            feedback.drop()
            continue
        feedback.commit()
        code.decode(payload, columns, decoded, False)
        given += fresh
        said += decoded
        forgotten += (1 - part) / part * feedback.residual
    assert (said + feedback.residual + forgotten - given).abs().max() < 1e-4
    if any(kept) and part < 1 and n > 32 * len(lengths):
        assert forgotten.any()


@pytest.mark.parametrize("part", [0.5, 0.9])
def test_of_what_is_held_nothing_is_forgotten(part: float) -> None:
    columns, code = Columns.from_lengths([64]), named_code("2-bit")
    feedback = ErrorFeedback(64, part=part)
    feedback.residual.copy_(torch.randn(64))
    hole = slice(0, 64)
    before = feedback.residual.clone()
    feedback.hold(hole)  # a parameter of which nothing is sent keeps all of it
    feedback.values.zero_()
    feedback.encode(code, 1.0, columns, payload_for(code, columns))
    feedback.commit()
    assert torch.equal(feedback.residual, before)
