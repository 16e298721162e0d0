import torch

from tests.quantize.cases import payload_for
from thinwire.quantize import Columns, ErrorFeedback, SignCode


def test_without_feedback_nothing_is_carried() -> None:
    columns, code = Columns.from_lengths([64]), SignCode()
    feedback = ErrorFeedback(64, enabled=False)
    for _ in range(2):
        feedback.values.copy_(torch.randn(64))
        feedback.encode(code, 1.0, columns, payload_for(code, columns))
        feedback.commit()
    assert not feedback.residual.any()
