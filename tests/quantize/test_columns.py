import itertools
import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from thinwire.quantize import Columns, column_lengths
from thinwire.quantize.columns import LARGEST, RUN, RUN_UNIT, SMALLEST

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


@given(st.lists(st.integers(0, 1200), max_size=8), st.sampled_from([1, 2, 4, 8]))
def test_the_host_s_numbers_are_those_of_the_tables(lengths: list[int], bits: int) -> None:
    columns = Columns.from_lengths(lengths)
    table = columns.packed_table(bits)
    assert table[0].tolist() == columns.offsets
    assert table[0].diff().tolist() == lengths
    assert (columns.values, columns.packed_words(bits)) == tuple(table[:, -1].tolist())
    assert columns.table[1].tolist() == columns.word_offsets
    assert columns.words == columns.packed_words(1)
    assert columns.blocks == int(columns.block_table[2, -1])
    for group, (first, last) in enumerate(itertools.pairwise(columns.block_table[2].tolist())):
        assert all(columns.group_of_block(level) == group for level in range(first, last))


def test_tables_follow_the_device_and_the_host_reads_none_of_them() -> None:
    host = Columns.from_lengths([300, 0, 2048])
    there = host.to("meta")
    assert there is host.to(torch.device("meta"))
    assert there.to("meta") is there
    assert host.to("cpu") is host
    tables = (there.table, there.packed_table(4), there.block_table, there.run(1, 3).table)
    assert all(table.is_meta for table in tables)
    assert there.packed_table(4) is there.packed_table(4)
    # A tensor on the meta device has no values, so these come from elsewhere.
    assert (there.values, there.groups, there.words, there.blocks) == (2348, 3, 74, 6)
    assert (there.packed_words(4), there.group_of(300), there.group_of_block(2)) == (294, 2, 2)
    assert there.sums(torch.empty(2348, device="meta")).shape == (3,)
    assert there.spread(torch.empty(3, device="meta")).shape == (2348,)


def test_sums_and_spread_are_by_group() -> None:
    columns = Columns.from_lengths([2, 0, 3])
    assert columns.sums(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).tolist() == [3, 0, 12]
    assert columns.spread(torch.tensor([7.0, 8.0, 9.0])).tolist() == [7, 7, 9, 9, 9]


@given(lengths=st.lists(st.integers(0, 3000), max_size=6))
def test_runs_tile_the_groups_in_whole_units(lengths: list[int]) -> None:
    columns = Columns.from_lengths(lengths)
    assert set(columns.offsets) <= set(columns.runs.offsets), "no run straddles groups"
    for length in lengths:
        *others, last = Columns.from_lengths([length]).runs.lengths
        assert sum(others) + last == length
        assert all(run % RUN_UNIT == 0 for run in others)
        if length >= 2 * RUN:
            assert all(RUN // 2 < run < 2 * RUN for run in (*others, last))
