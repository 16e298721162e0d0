"""A bucket in slices is the same exchange in smaller messages."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation import Simulation
from thinwire.exchange import TwoStage, split, stripes
from thinwire.quantize import CODE_NAMES, Columns, named_code

lengths = st.lists(st.integers(0, 300), min_size=1, max_size=12)
worlds = st.integers(1, 5)


def sliced(columns: Columns, world: int, smallest: int) -> Simulation:
    """A simulation whose slices begin at fewer values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stripes, "SLICE_VALUES", smallest)
        return Simulation(columns, world)


@given(lengths, worlds, st.integers(1, 200))
def test_slices_hold_every_group_of_every_stripe_once(
    group_lengths: list[int], world: int, smallest: int
) -> None:
    columns = Columns.from_lengths(group_lengths)
    slices = sliced(columns, world, smallest).workers[0].slices
    assert 1 <= len(slices) <= stripes.MOST_SLICES
    for owner, stripe in enumerate(split(columns, world)):
        parts = [of_owners[owner] for of_owners in slices]
        ends = [stripe.start, *(part.stop for part in parts)]
        assert [part.start for part in parts] == ends[:-1]
        assert ends[-1] == stripe.stop
        groups = [stripe.first_group + sum(p.columns.groups for p in parts[:i]) for i in range(9)]
        assert [part.first_group for part in parts] == groups[: len(parts)]
        assert sum(part.columns.groups for part in parts) == stripe.columns.groups


@given(
    lengths,
    worlds,
    st.sampled_from(CODE_NAMES),
    st.integers(0, 2**31),
    st.one_of(st.none(), st.integers(0, 99)),
)
def test_slices_change_no_bit(
    group_lengths: list[int], world: int, name: str, seed: int, bad: int | None
) -> None:
    columns, code = Columns.from_lengths([*group_lengths, 100]), named_code(name)
    whole, parts = Simulation(columns, world), sliced(columns, world, 150)
    generator = torch.Generator().manual_seed(seed)
    for step in range(3):
        sub = list(torch.randn(world, columns.values, generator=generator))
        if step == 1 and bad is not None:
            sub[-1][bad] = torch.nan
        results = []
        for simulation in (whole, parts):
            headers = simulation.reduce(code, sub)
            if headers[0][-1].nonfinite_group < 0:
                simulation.commit()
                results.append((headers, simulation.aggregate(), simulation.distribute(code)[0]))
            else:
                results.append((headers, *torch.zeros(2, 1)))
        assert results[0][0] == results[1][0]
        assert torch.equal(results[0][1], results[1][1])
        assert torch.equal(results[0][2], results[1][2])
    assert torch.equal(whole.worker_residuals(), parts.worker_residuals())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CODE_NAMES)
def test_a_gradient_need_not_be_copied(name: str, dtype: torch.dtype) -> None:
    columns, code = Columns.from_lengths([300, 784]), named_code(name)
    copied, direct = TwoStage(columns, 0, 2), TwoStage(columns, 0, 2)
    for _ in range(2):
        gradient = torch.randn(columns.values).to(dtype)
        copied.worker.values.copy_(gradient)
        before = gradient.clone()
        assert torch.equal(
            copied.quantise(code, 2.0), direct.quantise(code, 2.0, gradient=gradient)
        )
        assert torch.equal(gradient, before)
        copied.worker.commit()
        direct.worker.commit()
        assert torch.equal(copied.worker.residual, direct.worker.residual)
