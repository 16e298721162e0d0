"""What is special to the floating-point codes."""

import pytest
import torch

from tests.quantize.cases import decoded, encoded, payload_for
from thinwire.quantize import Columns, ErrorFeedback, named_code


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_what_an_earlier_code_left_is_sent(name: str) -> None:
    columns, feedback = Columns.from_lengths([30, 40]), ErrorFeedback(70)
    sign, code = named_code("sign"), named_code(name)
    feedback.values.copy_(torch.randn(70))
    feedback.encode(sign, 1.0, columns, payload_for(sign, columns))
    feedback.commit()
    wanted = feedback.values.normal_() + feedback.residual
    payload = payload_for(code, columns)
    feedback.encode(code, 1.0, columns, payload)
    sent = decoded(code, columns, payload)
    feedback.commit()
    assert torch.equal(sent, wanted.bfloat16().float() if name == "bfloat16" else wanted)
    assert torch.equal(feedback.residual, wanted - sent)


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_large_values_are_finite_although_their_sum_is_not(name: str) -> None:
    columns, code = Columns.from_lengths([64]), named_code(name)
    payload = encoded(code, columns, torch.full((64,), 3e38))
    assert code.nonfinite_group(payload, columns) == -1
