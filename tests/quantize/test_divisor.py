"""Decoding with a divisor is decoding and dividing."""

import pytest
import torch

from thinwire.quantize import CODE_NAMES, Columns, named_code


@pytest.mark.parametrize("name", CODE_NAMES)
@pytest.mark.parametrize("accumulate", [False, True])
def test_divisor(name: str, accumulate: bool) -> None:
    torch.manual_seed(0)
    code, columns = named_code(name), Columns.from_lengths([300, 784, 1, 40])
    values = torch.randn(columns.values)
    payload = torch.empty(code.payload_bytes(columns), dtype=torch.uint8)
    code.encode(values, 1.0, torch.zeros_like(values), columns, torch.empty_like(values), payload)
    decoded, divided = torch.empty_like(values), torch.ones_like(values)
    code.decode(payload, columns, decoded, accumulate=False)
    code.decode(payload, columns, divided, accumulate, divisor=3.0)
    torch.testing.assert_close(divided, accumulate + decoded / 3.0)
