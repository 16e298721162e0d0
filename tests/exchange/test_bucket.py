"""The protocol of a bucket: reduce, distribute, commit or drop, and what is conserved by it."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from thinwire import simulate
from thinwire.exchange import Ledger, ParameterBucket, UpdateError, joint, own_wire
from thinwire.quantize import stage_codes

SHAPES = [(40, 30), (300,), (1,)]
CODES = ["sign", "rotated", "4-bit", ("sign", "float32"), "float32"]


def gradient(rank: int, step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 * step + rank)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def make(code: Any) -> tuple[ParameterBucket, Any]:
    wire = own_wire(None, None, Ledger())
    named = [(f"p{i}", torch.zeros(shape)) for i, shape in enumerate(SHAPES)]
    return (
        ParameterBucket(named, stage_codes(code), wire, axis="output", error_feedback=True),
        wire,
    )


def run(rank: int, world: int, code: Any, ends: list[str]) -> dict[str, Tensor]:
    """Each step ends as told; what was computed, applied and is carried, in sums over samples."""
    bucket, wire = make(code)
    computed, applied = torch.zeros(2, bucket.space.values, dtype=torch.float64)
    for step, end in enumerate(ends):
        before = [f.residual.clone() for f in (bucket.stages.worker, bucket.stages.owner)]
        given = gradient(rank, step)
        if end == "nan" and rank == world - 1:
            given[1][7] = torch.nan
        bucket.space.collect(given, bucket.scratch)
        flat = bucket.scratch.clone()
        samples = 1.0 + rank
        verdict = bucket.reduce(wire, samples)
        assert verdict.samples == sum(range(1, world + 1))
        assert verdict.nonfinite == ((world - 1, "p1") if end == "nan" else None)
        assert joint([verdict]) is verdict
        if verdict.finite and end != "drop after stage 1":
            out = bucket.distribute(wire, torch.empty(bucket.space.values))
            if end == "keep":
                bucket.commit()
                computed += samples * flat.double()
                applied += out.double()
                continue
        bucket.drop()
        after = (bucket.stages.worker.residual, bucket.stages.owner.residual)
        assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    owner = torch.zeros(bucket.space.values, dtype=torch.float64)
    owner[bucket.stripe.start : bucket.stripe.stop] = bucket.stages.owner.residual.double()
    carried = bucket.stages.worker.residual.double() + owner
    return {"computed": computed, "applied": applied, "carried": carried}


ENDS = st.lists(
    st.sampled_from(["keep", "drop", "drop after stage 1", "nan"]), min_size=1, max_size=5
)


@settings(max_examples=25)
@given(st.integers(1, 4), st.sampled_from(CODES), ENDS)
def test_conservation(world: int, code: Any, ends: list[str]) -> None:
    """Applied + carried = computed, over the steps that were kept; the others leave no trace."""
    results = simulate(world, run, code, ends)
    assert all(torch.equal(r["applied"], results[0]["applied"]) for r in results)
    computed = torch.stack([r["computed"] for r in results]).sum(0)
    carried = torch.stack([r["carried"] for r in results]).sum(0)
    # Each step rounds sums of at most K terms of the size of residual + gradient, twice.
    scale = max(1.0, float(computed.abs().max()), float(carried.abs().max()))
    bound = len(ends) * 4 * (world + 2) * torch.finfo(torch.float32).eps * scale * world
    assert float((results[0]["applied"] + carried - computed).abs().max()) <= bound


def overflow(rank: int, world: int) -> str:
    bucket, wire = make("float32")
    bucket.space.collect(gradient(rank, 0), bucket.scratch)
    bucket.reduce(wire, 1.0)
    bucket.commit()
    if bucket.stripe.values and rank == 0:
        bucket.sum[0] = torch.inf
    try:
        bucket.distribute(wire)
    except UpdateError as error:
        return str(error)
    return "no error"


def test_an_update_that_overflows_is_named_on_every_worker() -> None:
    for message in simulate(3, overflow):
        assert "worker 0: the update of 'p0' is not finite" in message


def held(rank: int, world: int) -> tuple[Tensor, Tensor, Tensor]:
    """A parameter nobody has a gradient for keeps its residuals, committed or dropped."""
    bucket, wire = make("sign")
    bucket.space.collect(gradient(rank, 0), bucket.scratch)
    bucket.reduce(wire, 1.0)
    bucket.distribute(wire, torch.empty(bucket.space.values))
    bucket.commit()
    before = bucket.state()[0]["residual"].clone()
    seen = []
    for keep in (True, False):
        idle = gradient(rank, 1)
        idle[0].zero_()
        bucket.space.collect(idle, bucket.scratch)
        bucket.hold_idle(idle)
        bucket.reduce(wire, 1.0)
        bucket.hold_idle_owned()
        out = bucket.distribute(wire, torch.empty(bucket.space.values))
        assert not out[: SHAPES[0][0] * SHAPES[0][1]].any()
        if keep:
            bucket.commit()
        else:
            bucket.drop()
        seen.append(bucket.state()[0]["residual"].clone())
    return before, seen[0], seen[1]


def test_an_idle_parameter_keeps_its_residual() -> None:
    for before, kept, dropped in simulate(3, held):
        assert before.any()
        assert torch.equal(before, kept)
        assert torch.equal(before, dropped)


@pytest.mark.parametrize("code", CODES, ids=str)
def test_state_covers_every_value_once(code: Any) -> None:
    def tiles(rank: int, world: int) -> list[Any]:
        return make(code)[0].state()

    states = simulate(3, tiles)
    for i, shape in enumerate(SHAPES):
        covered = sorted(state[i]["owned"] for state in states if "owned" in state[i])
        assert covered[0][0] == 0
        assert covered[-1][1] == torch.Size(shape).numel()
        assert all(a[1] == b[0] for a, b in itertools.pairwise(covered))
