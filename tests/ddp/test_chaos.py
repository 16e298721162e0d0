"""Short runs of the hook, each of fresh processes: never a hang, never an abort."""

import multiprocessing

import pytest

from benchmarks import hook_stability

RUNS = 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_short_runs_survive() -> None:
    """2 to 4 ranks, 2 to 6 buckets; "ok" is a clean exit of all ranks with equal parameters."""
    multiprocessing.set_forkserver_preload(list(hook_stability.PRELOAD))
    assert hook_stability.survey("thinwire", RUNS, timeout=60) == {"ok": RUNS}
