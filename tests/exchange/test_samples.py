"""``samples``: no unit is assumed, and nothing that is no number of samples is taken for one."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from thinwire import OneBitSGD, OneBitState, OwnerOptimizer
from thinwire.exchange import SampleCount

OPTIMISERS = ("OneBitSGD", "OwnerOptimizer")
TAKEN = [0, 7, 7.5, 2**53, np.int64(7), np.float32(7), torch.tensor(7), Fraction(7, 2)]
REFUSED = [-0.5, -1, 1e300, float("nan"), float("inf"), True, "8", None, [8], np.bool_(True)]
REFUSED += [torch.tensor(True), torch.tensor([1.0, 2.0]), torch.tensor(-1), 1j]


def owner(named: Any, **options: Any) -> OwnerOptimizer:
    return OwnerOptimizer(torch.optim.SGD, named, **options)


@pytest.mark.parametrize("value", REFUSED, ids=repr)
def test_what_is_no_number_of_samples_is_refused(value: Any) -> None:
    weight = nn.Parameter(torch.zeros(3))
    for holder in (OneBitSGD([weight]), owner([weight], lr=0.1), OneBitState()):
        with pytest.raises(ValueError, match=r"samples: expected a number from 0 to 2\*\*53, got"):
            holder.samples = value
        assert holder.samples == 1


@pytest.mark.parametrize(
    "value",
    [0, 7, 7.5, 2**53, np.int64(7), np.float32(7), torch.tensor(7), Fraction(7, 2)],
    ids=repr,
)
def test_whatever_counts_is_taken(value: Any) -> None:
    count = SampleCount()
    count.set(value)
    assert count.value == float(value)
    assert isinstance(count.value, float)


def steps_taken(make: Any, samples: int | None, **options: Any) -> int:
    weight = nn.Parameter(torch.zeros(300))
    optimizer = make([("w", weight)], lr=0.1, **options)
    dense = 0
    for _ in range(4):
        dense += optimizer.phase != "steady"
        if samples is not None:
            optimizer.samples = samples
        optimizer.zero_grad()
        weight.sum().backward()
        optimizer.step()
    return dense


IN_SAMPLES = [
    (OneBitSGD, {"batch_size": 1024}, "batch_size=1024"),
    (OneBitSGD, {"start_samples": 16}, "start_samples=16"),
    (OneBitSGD, {"start": "serial", "start_samples": 16}, "start_samples=16"),
    (OneBitSGD, {"batch_size": 1024, "double_buffer": True}, "batch_size=1024"),
    (owner, {"start_samples": 16}, "start_samples=16"),
]


@pytest.mark.support("batch_size= or start_samples= without `samples`", *OPTIMISERS, refused=True)
@pytest.mark.parametrize(
    ("make", "options", "named"), IN_SAMPLES, ids=[str(options) for _, options, _ in IN_SAMPLES]
)
def test_options_in_samples_need_samples(make: Any, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"samples: expected it to be set .* since {named} counts"):
        steps_taken(make, None, **options)
    assert steps_taken(make, 8, **options) == (2 if "start_samples" in options else 0)


def test_a_groups_own_batch_size_needs_them_too() -> None:
    weight = nn.Parameter(torch.zeros(300))
    optimizer = OneBitSGD([{"params": [weight], "batch_size": 64}], lr=0.1)
    with pytest.raises(ValueError, match="since batch_size=64 counts samples: write optimizer"):
        weight.sum().backward()
    optimizer.close()


@pytest.mark.support("no `samples`: the plain mean over workers", *OPTIMISERS)
@pytest.mark.parametrize("make", [OneBitSGD, owner], ids=OPTIMISERS)
def test_without_such_options_every_worker_counts_one(make: Any) -> None:
    assert steps_taken(make, None, start_steps=3) == 3


def test_the_former_cold_start_counted_samples() -> None:
    with (
        pytest.warns(DeprecationWarning, match="start_samples=16"),
        pytest.raises(ValueError, match="since start_samples=16 counts samples"),
    ):
        steps_taken(OneBitSGD, None, cold_start=16)
