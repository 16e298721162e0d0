"""Calibration with a process group: every worker ends with the same profile."""

from typing import Any

import torch

from thinwire.models import build_model
from thinwire.train import calibrate as calibration
from thinwire.train import measure_wire
from thinwire.train.calibrate import Workload, calibrate


def measure(rank: int, world: int) -> dict[str, Any]:
    calibration.ROUNDS, calibration.LEAST_SECONDS = 4, 0.001  # quick rather than exact
    calibration.NETWORK_STEPS, measure_wire.MOST_BYTES = 3, 2**16
    work = Workload(
        build_model(8, [16], 4, "relu", seed=rank), torch.randn(8, 8), torch.randint(4, (8,))
    )
    made = calibrate("test", work, [1, 4])
    assert made.link is not None
    return vars(made) | {"compute": made.compute.seconds, "link": vars(made.link)}


def test_two_workers_measure_their_network(run_ranks: Any) -> None:
    one, other = run_ranks(2, measure)
    assert one == other
    assert one["workers"] == 2
    assert one["link"]["bandwidth"] > 1e5
    assert 1e-6 < one["link"]["latency"] < 1
    assert all(code.overhead >= 0 for code in one["codes"].values())
