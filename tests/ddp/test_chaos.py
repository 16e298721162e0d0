"""Short runs of the hook, each of fresh processes: never a hang, never an abort."""

import pytest

from benchmarks.exchange import hooks

RUNS = 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_short_runs_survive() -> None:
    """2 to 4 ranks, 2 to 6 buckets; "ok" is a clean exit of all ranks with equal parameters."""
    settings = {"kind": "thinwire", "runs": RUNS, "timeout": 60}
    assert hooks.survey(settings) == {"ok": RUNS}
