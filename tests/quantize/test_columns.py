import math

from hypothesis import given
from hypothesis import strategies as st

from thinwire.quantize import Columns, column_lengths
from thinwire.quantize.columns import LARGEST, SMALLEST

shapes = st.lists(st.integers(0, 40), max_size=4).map(tuple) | st.tuples(
    st.integers(1, 6), st.integers(1, 9000)
)


@given(shapes, st.sampled_from(["output", "input"]))
def test_groups_tile_the_parameter_with_useful_lengths(shape: tuple[int, ...], axis: str) -> None:
    lengths = column_lengths(shape, axis)
    values = math.prod(shape)
    assert sum(lengths) == values
    assert all(length <= LARGEST for length in lengths)
    if values >= SMALLEST:
        assert all(length >= SMALLEST for length in lengths)
    else:
        assert len(lengths) <= 1


@given(st.integers(1, 50), st.integers(SMALLEST, LARGEST), st.sampled_from(["output", "input"]))
def test_a_column_of_good_length_is_one_group(units: int, length: int, axis: str) -> None:
    shape = (units, length) if axis == "output" else (length, units)
    assert column_lengths(shape, axis) == [length] * units


def test_a_vector_is_one_column() -> None:
    assert column_lengths((512,)) == [512]
    assert column_lengths((9304,)) == [1888, 1888, 1888, 1888, 1752]


@given(st.lists(st.integers(0, 100), max_size=8), st.data())
def test_a_run_of_groups_starts_at_zero(lengths: list[int], data: st.DataObject) -> None:
    columns = Columns.from_lengths(lengths)
    first = data.draw(st.integers(0, len(lengths)))
    last = data.draw(st.integers(first, len(lengths)))
    assert columns.run(first, last).table.tolist() == (
        Columns.from_lengths(lengths[first:last]).table.tolist()
    )


def test_group_of_skips_empty_groups() -> None:
    columns = Columns.from_lengths([2, 0, 3])
    assert [columns.group_of(value) for value in range(5)] == [0, 0, 2, 2, 2]
