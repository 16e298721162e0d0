import sys

import pytest

from tests.fuzz.__main__ import SHARES
from tests.fuzz.run import fuzz

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds its memory as Linux does")


@pytest.mark.parametrize("count", [5, pytest.param(2000, marks=pytest.mark.slow)])
def test_mutated_inputs_are_read_or_refused(count: int) -> None:
    outcomes, failures = fuzz(dict.fromkeys(SHARES, count), seed=1, processes=1)
    assert not failures, "\n".join(failures[:10])
    assert sum(sum(found.values()) for found in outcomes.values()) == count * len(SHARES)
    assert all(found["refused"] for found in outcomes.values())
