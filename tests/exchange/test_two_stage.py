"""The exchange of W simulated workers in one process: sums, conservation, refusals."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation import Simulation
from thinwire.exchange import HEADER_BYTES, Header, NonFiniteUpdateError, TwoStage, split
from thinwire.quantize import Code, Columns, Float32Code, SignCode, code_names, named_code

lengths = st.lists(st.integers(0, 300), min_size=1, max_size=7)
worlds = st.integers(1, 6)
codes = st.sampled_from([SignCode(torch.float32), *(named_code(name) for name in code_names())])
seeds = st.integers(0, 2**31)


def gradients(world: int, values: int, seed: int) -> list[torch.Tensor]:
    return list(torch.randn(world, values, generator=torch.Generator().manual_seed(seed)))


@given(lengths, worlds, codes, st.integers(1, 5), seeds)
def test_conservation(
    group_lengths: list[int], world: int, code: Code, steps: int, seed: int
) -> None:
    """Sub-gradients = aggregated + worker residuals; updates = applied + owner residuals."""
    columns = Columns.from_lengths(group_lengths)
    simulation = Simulation(columns, world)
    computed, aggregated, updated, applied = torch.zeros(4, columns.values, dtype=torch.float64)
    for step in range(steps):
        sub = gradients(world, columns.values, seed + step)
        samples = [float(1 + (rank + step) % 3) for rank in range(world)]
        for gradient, count in zip(sub, samples, strict=True):
            computed += count * gradient.double()
        simulation.reduce(code, sub, samples)
        simulation.commit()
        aggregated += simulation.aggregate()
        updated += simulation.aggregate()  # an owner that passes the sum on as the update
        applied += simulation.distribute(code)[0]
    close = {"rtol": 1e-4, "atol": 1e-3}
    torch.testing.assert_close(aggregated + simulation.worker_residuals(), computed, **close)
    torch.testing.assert_close(applied + simulation.owner_residuals(), updated, **close)


@given(lengths, worlds, seeds)
def test_float32_equals_the_plain_sum_bit_for_bit(
    group_lengths: list[int], world: int, seed: int
) -> None:
    columns = Columns.from_lengths(group_lengths)
    simulation = Simulation(columns, world)
    sub = gradients(world, columns.values, seed)
    simulation.reduce(Float32Code(), sub)
    expected = sub[0].clone()
    for gradient in sub[1:]:
        expected += gradient
    assert torch.equal(simulation.aggregate(), expected)
    for decoded in simulation.distribute(Float32Code()):
        assert torch.equal(decoded, expected)


@given(lengths, worlds, codes, seeds)
def test_every_replica_decodes_the_same_update(
    group_lengths: list[int], world: int, code: Code, seed: int
) -> None:
    columns = Columns.from_lengths(group_lengths)
    simulation = Simulation(columns, world)
    simulation.reduce(code, gradients(world, columns.values, seed))
    decoded = simulation.distribute(code)
    assert all(torch.equal(other, decoded[0]) for other in decoded)


@given(st.lists(st.integers(0, 2048), max_size=40), st.integers(1, 9))
def test_stripes_tile_the_bucket_and_balance_bits(group_lengths: list[int], world: int) -> None:
    columns = Columns.from_lengths(group_lengths)
    stripes = split(columns, world)
    assert [stripe.start for stripe in stripes[1:]] == [stripe.stop for stripe in stripes[:-1]]
    assert (stripes[0].start, stripes[-1].stop) == (0, columns.values)
    assert all(stripe.columns.values == stripe.values for stripe in stripes)
    largest_group = max((n + 31) // 32 for n in [*group_lengths, 0])
    assert max(s.columns.words for s in stripes) <= columns.words / world + largest_group


@given(lengths, st.integers(2, 5), codes, seeds, st.data())
def test_a_nan_reaches_every_owner_and_changes_nothing(
    group_lengths: list[int], world: int, code: Code, seed: int, data: st.DataObject
) -> None:
    columns = Columns.from_lengths([*group_lengths, 5])
    simulation = Simulation(columns, world)
    simulation.reduce(code, gradients(world, columns.values, seed))
    simulation.commit()
    before = [worker.worker.residual.clone() for worker in simulation.workers]
    sub = gradients(world, columns.values, seed + 1)
    culprit = data.draw(st.integers(0, world - 1))
    position = data.draw(st.integers(0, columns.values - 1))
    sub[culprit][position] = torch.nan
    for headers in simulation.reduce(code, sub):
        flagged = [header.nonfinite_group for header in headers]
        assert flagged[culprit] == columns.group_of(position)
        assert all(group == -1 for rank, group in enumerate(flagged) if rank != culprit)
    for worker, residual in zip(simulation.workers, before, strict=True):
        assert torch.equal(worker.worker.residual, residual)


def test_an_update_that_overflows_is_refused_by_all() -> None:
    simulation = Simulation(Columns.from_lengths([64, 64]), 2)
    simulation.reduce(SignCode(), gradients(2, 128, 0))
    simulation.workers[1].owner.values[3] = torch.inf
    with pytest.raises(NonFiniteUpdateError, match="worker 1 computed a non-finite update in gr"):
        simulation.distribute(SignCode())
    assert not simulation.workers[1].owner.residual.any()


def test_workers_at_different_exchanges_are_told() -> None:
    simulation = Simulation(Columns.from_lengths([64]), 2)
    simulation.workers[1].sequence = 5
    with pytest.raises(RuntimeError, match="worker 1 is at exchange 6, this one at 1"):
        simulation.reduce(SignCode(), gradients(2, 64, 0))


@given(
    st.floats(0, 1e15),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 2**40),
    st.booleans(),
    st.integers(0, 2**16 - 1),
)
def test_header_round_trip(
    samples: float, group: int, sequence: int, idle: bool, stated: int
) -> None:
    packet = torch.zeros(HEADER_BYTES + 4, dtype=torch.uint8)
    header = Header(samples, group, sequence, idle, stated)
    header.write(packet)
    found = Header.read(packet)
    assert found == dataclasses.replace(header, sequence=sequence % 2**15)
    assert found.belongs_to(sequence)
    assert not found.belongs_to(sequence + 1)


def test_cost_on_the_wire_meets_what_the_code_promises() -> None:
    """Headers, levels and padding included: 1/28 at 512-wide layers, 1/30.5 at 2048-wide ones."""
    for width, factor in ((512, 28.0), (2048, 30.5)):
        columns = Columns.from_lengths([width] * 3 * width + [width] * 3)
        for world in (2, 4, 8):
            simulation = Simulation(columns, world)
            sign, dense = (
                max(
                    sum(worker.packet_bytes(code))
                    - worker.packet_bytes(code)[worker.rank]
                    + (world - 1) * worker.packet_bytes(code)[worker.rank]
                    for worker in simulation.workers
                )
                for code in (SignCode(), Float32Code())
            )
            assert dense / sign >= factor
            assert 8 * columns.values * (world - 1) / world / sign >= factor


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", code_names())
def test_a_gradient_need_not_be_copied(name: str, dtype: torch.dtype) -> None:
    columns, code = Columns.from_lengths([300, 784]), named_code(name)
    copied, direct = TwoStage(columns, 0, 2), TwoStage(columns, 0, 2)
    for _ in range(2):
        gradient = torch.randn(columns.values).to(dtype)
        copied.worker.values.copy_(gradient)
        before = gradient.clone()
        sent = copied.new_packets(code), direct.new_packets(code)
        copied.quantise(code, 2.0, sent[0])
        direct.quantise(code, 2.0, sent[1], gradient)
        assert all(torch.equal(*packets) for packets in zip(*sent, strict=True))
        assert torch.equal(gradient, before)
        copied.worker.commit()
        direct.worker.commit()
        assert torch.equal(copied.worker.residual, direct.worker.residual)
