"""Bytes on the wire, by hand."""

import pytest

from tests.quantize.cases import CODES
from thinwire.quantize import Columns, SignCode


def test_the_factor_that_one_bit_promises() -> None:
    """Two 16-bit levels a group and one bit a value."""
    wide = Columns.from_lengths([2048] * 100)
    assert 4 * wide.values / SignCode().payload_bytes(wide) == pytest.approx(31.5, abs=0.05)
    narrow = Columns.from_lengths([512] * 100)
    assert 4 * narrow.values / SignCode().payload_bytes(narrow) == pytest.approx(30.1, abs=0.05)


@pytest.mark.parametrize(
    ("length", "sizes"),
    [
        (1, {"sign": 8, "rotated": 8, "2-bit": 8, "4-bit": 8, "8-bit": 8, "ternary": 8}),
        (512, {"sign": 68, "rotated": 68, "2-bit": 144, "4-bit": 272, "8-bit": 528}),
        (784, {"sign": 104, "rotated": 104, "2-bit": 216, "4-bit": 412, "8-bit": 804}),
        (2048, {"sign": 260, "rotated": 264, "2-bit": 568, "4-bit": 1080, "8-bit": 2104}),
        (2048, {"float32": 8192, "bfloat16": 4096, "ternary": 416}),
        (3, {"float32": 12, "bfloat16": 8, "ternary": 8}),
    ],
)
def test_one_group(length: int, sizes: dict[str, int]) -> None:
    columns = Columns.from_lengths([length])
    assert {name: CODES[name].payload_bytes(columns) for name in sizes} == sizes
