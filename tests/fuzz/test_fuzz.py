import sys

import pytest

from tests.fuzz.__main__ import SHARES
from tests.fuzz.run import fuzz

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds its memory as Linux does")


@pytest.mark.parametrize("count", [20, pytest.param(2000, marks=pytest.mark.slow)])
def test_mutated_inputs_are_read_or_refused(count: int) -> None:
    total = fuzz(dict.fromkeys(SHARES, count), seed=1, processes=1)
    failures = [line for found in total.values() for line in found.failures]
    assert not failures, "\n".join(failures[:10])
    for found in total.values():
        assert found.outcomes["read"] + found.outcomes["refused"] == count
        assert found.outcomes["refused"]
