import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinwire.quantize import FlatSpace

shape_lists = st.lists(st.lists(st.integers(0, 6), max_size=4).map(torch.Size), max_size=5)
axes = st.sampled_from(["output", "input"])


@given(shape_lists, axes)
def test_collect_then_view_is_the_identity(shapes: list[torch.Size], axis: str) -> None:
    space = FlatSpace(shapes, axis)
    tensors = [torch.randn(shape) for shape in shapes]
    buffer = torch.full((space.values,), torch.nan)
    space.collect(tensors, buffer)
    for tensor, view in zip(tensors, space.views(buffer), strict=True):
        assert torch.equal(tensor, view)


def test_input_axis_makes_columns_of_the_inputs_weights_consecutive() -> None:
    space = FlatSpace([torch.Size([300, 2])], "input")
    weight = torch.arange(600.0).view(300, 2)
    buffer = torch.empty(600)
    space.collect([weight], buffer)
    assert torch.equal(buffer[:300], weight[:, 0])
    assert space.columns.table[0].tolist() == [0, 300, 600]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_collect_widens_and_fills_missing_gradients_with_zero(dtype: torch.dtype) -> None:
    space = FlatSpace([torch.Size([2]), torch.Size([3])])
    buffer = torch.full((5,), torch.nan)
    space.collect([None, torch.tensor([1.0, 2.0, 3.0], dtype=dtype)], buffer)
    assert buffer.tolist() == [0, 0, 1, 2, 3]


@given(shape_lists, st.data())
def test_overlaps_tile_any_range(shapes: list[torch.Size], data: st.DataObject) -> None:
    space = FlatSpace(shapes)
    start = data.draw(st.integers(0, space.values))
    stop = data.draw(st.integers(start, space.values))
    flat = [space.ranges[i][0] + v for i, a, b in space.overlaps(start, stop) for v in range(a, b)]
    assert flat == list(range(start, stop))
    for value in range(start, stop):
        first, last = space.ranges[space.owner_of(value)]
        assert first <= value < last


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_updates_are_rounded_once(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = torch.randn(1000, generator=generator, dtype=torch.float64).to(dtype)
    update = torch.randn(1000, generator=generator, dtype=torch.float32) / 10
    expected = (parameter.double() - update.double()).to(dtype)
    FlatSpace([parameter.shape]).subtract(update, [parameter])
    torch.testing.assert_close(parameter, expected, rtol=0, atol=1e-9)
    assert (parameter == expected).double().mean() > 0.999  # float32 may round before bfloat16
