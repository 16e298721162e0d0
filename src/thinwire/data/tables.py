"""Columns of CSV and Parquet files, through pyarrow (the extra ``thinwire[tables]``).

A CSV file is read into memory, as float32. A Parquet file stays where it is: row groups are read
when they are asked for, and as many as fit into ``KEPT_BYTES`` are kept.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thinwire.data.source import DataSource, content_digest
from thinwire.data.tensors import TensorSource
from thinwire.files import open_regular, path_of

KEPT_BYTES = 1 << 30


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what.

    Attributes:
        inputs: of numbers; together one input.
        targets: of numbers, together one target; or one column of words, which are classes.
        labels: the words, in the order of their class numbers; none where targets are numbers.
    """

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    labels: tuple[str, ...] = ()


class ParquetSource:
    """The rows of a Parquet file.

    Args:
        path: the file.
        columns: which of them, checked by `read_columns`.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path, self._columns = path, columns
        self._file = _parquet(path)
        metadata = self._file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._ends = torch.tensor(list(accumulate(sizes)), dtype=torch.int64)
        self._starts = self._ends - torch.tensor(sizes, dtype=torch.int64)
        self._kept: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return (len(self._columns.inputs),)

    @cached_property
    def identity(self) -> str:
        """A digest of the content."""
        return content_digest(self)

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Read some samples, every row group they are in once."""
        groups = torch.searchsorted(self._ends, numbers, right=True)
        places, inputs, targets = [], [], []
        for group in groups.unique().tolist():
            place = (groups == group).nonzero().flatten()
            rows = numbers[place] - self._starts[group]
            held = self._group(group)
            places.append(place)
            inputs.append(held[0][rows])
            targets.append(held[1][rows])
        if not places:
            return torch.empty(0, *self.shape), self._group(0)[1][:0]
        order = torch.cat(places).argsort()
        return torch.cat(inputs)[order], torch.cat(targets)[order]

    def targets_of(self, numbers: Tensor) -> Tensor:
        """Read targets alone."""
        return self.batch(numbers)[1]

    def _group(self, number: int) -> tuple[Tensor, Tensor]:
        """One row group as tensors; those used last are kept."""
        if number not in self._kept:
            names = [*self._columns.inputs, *self._columns.targets]
            table = self._file.read_row_group(number, columns=names)
            self._kept[number] = _to_tensors(table, self._columns, self._path)
        self._kept.move_to_end(number)
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[number]


def open_csv(path: Path, columns: Columns) -> DataSource:
    """Read a CSV file whose first line names its columns.

    Raises:
        ValueError: naming the file and the column, if a column is missing or no numbers.
        OSError: it cannot be read.
    """
    return TensorSource(*_to_tensors(_read_csv(path), columns, path))


def read_columns(
    path: Path, kind: str, inputs: Sequence[str] | None, targets: Sequence[str] | None
) -> Columns:
    """Find out which columns of a table are inputs and targets, from its names and types.

    Args:
        path: the file with the training samples.
        kind: "csv" or "parquet".
        inputs: as the recipe says; None: all that are no targets.
        targets: as the recipe says.

    Raises:
        ValueError: a column is missing or holds something else than numbers.
        OSError: the file cannot be read.
    """
    table = _read_csv(path) if kind == "csv" else _parquet(path)
    schema = table.schema if kind == "csv" else table.schema_arrow
    names = list(schema.names)
    if not targets:
        raise ValueError(
            f"{path}: data.targets: expected the column to be predicted, one or more of "
            f"{', '.join(names)}; got none"
        )
    chosen = tuple(inputs or (name for name in names if name not in targets))
    for field, wanted in (("inputs", chosen), ("targets", targets)):
        for name in wanted:
            if name not in names:
                raise ValueError(
                    f"{path}: data.{field}: got no column {name!r}, expected one of "
                    f"{', '.join(names)}"
                )
    both = sorted(set(chosen) & set(targets))
    if both:
        raise ValueError(f"{path}: data.inputs: {both[0]!r} is a target; expected other columns")
    words = len(targets) == 1 and _is_text(schema.field(targets[0]).type)
    for name in (*chosen, *(() if words else targets)):
        _check_numbers(schema.field(name).type, name, path)
    labels = _labels(table, kind, targets[0]) if words else ()
    return Columns(chosen, tuple(targets), labels)


def _check_numbers(type_: Any, name: str, path: Path) -> None:
    if not _is_number(type_):
        raise ValueError(
            f"{path}: column {name!r}: got {type_}, expected numbers "
            "(data.inputs and data.targets name the columns to use)"
        )


def _labels(table: Any, kind: str, name: str) -> tuple[str, ...]:
    """The words in a column, in alphabetical order."""
    parts: Iterator[Any] = iter([table])
    if kind == "parquet":
        parts = (table.read_row_group(i, columns=[name]) for i in range(table.num_row_groups))
    words: set[str] = set()
    for part in parts:
        words |= {word for word in part.column(name).unique().to_pylist() if word is not None}
    return tuple(sorted(words))


def _to_tensors(table: Any, columns: Columns, path: Path) -> tuple[Tensor, Tensor]:
    """Inputs float32 [n, columns]; targets float32 or int64 [n] or [n, columns]."""
    inputs = [_numbers(table, name, path).astype(np.float32) for name in columns.inputs]
    if columns.labels:
        return torch.from_numpy(np.stack(inputs, 1)), _class_numbers(table, columns, path)
    targets = [_numbers(table, name, path) for name in columns.targets]
    kind = np.float32 if any(column.dtype.kind == "f" for column in targets) else np.int64
    stacked = np.stack([column.astype(kind) for column in targets], 1)
    made = torch.from_numpy(stacked)
    return torch.from_numpy(np.stack(inputs, 1)), made[:, 0] if len(targets) == 1 else made


def _numbers(table: Any, name: str, path: Path) -> Any:
    """One column as an array of numbers."""
    column = _column(table, name, path)
    _check_numbers(column.type, name, path)
    return column.to_numpy()


def _class_numbers(table: Any, columns: Columns, path: Path) -> Tensor:
    (name,) = columns.targets
    numbers = {word: number for number, word in enumerate(columns.labels)}
    words = _column(table, name, path).to_pylist()
    unknown = next((word for word in words if word not in numbers), None)
    if unknown is not None:
        raise ValueError(
            f"{path}: column {name!r}: got {unknown!r}, expected one of the training samples' "
            f"{', '.join(columns.labels[:10])}"
        )
    return torch.tensor([numbers[word] for word in words], dtype=torch.int64)


def _column(table: Any, name: str, path: Path) -> Any:
    if name not in table.schema.names:
        raise ValueError(f"{path}: got no column {name!r}, which the training samples have")
    column = table.column(name)
    if column.null_count:
        row = next(i for i, value in enumerate(column.to_pylist()) if value is None)
        raise ValueError(
            f"{path}: column {name!r}: {column.null_count} missing values, the first in row "
            f"{row + 1}; expected none: fill them or leave these rows out"
        )
    return column


def _read_csv(path: Path) -> Any:
    arrow = _pyarrow(path)
    from pyarrow import csv

    try:
        with open_regular(path, follow=True) as file:
            if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise ValueError(f"{path}: expected text in UTF-8, got UTF-16; save it as UTF-8")
            file.seek(0)
            table = csv.read_csv(file)
    except arrow.ArrowInvalid as error:
        raise ValueError(f"{path}: expected a CSV file with a line of names: {error}") from None
    _check_names(table.schema, path)
    if not table.num_rows:
        raise ValueError(f"{path}: got no samples, expected at least 1 below the line of names")
    return table


def _parquet(path: Path) -> Any:
    arrow = _pyarrow(path)
    from pyarrow import parquet

    try:
        with open_regular(path, follow=True) as opened:
            file = parquet.ParquetFile(path_of(opened), memory_map=True)
    except arrow.ArrowInvalid as error:
        raise ValueError(f"{path}: expected a Parquet file: {error}") from None
    _check_names(file.schema_arrow, path)
    return file


def _check_names(schema: Any, path: Path) -> None:
    """Refuse columns that cannot be told apart, or whose names are no text."""
    try:
        names = list(schema.names)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8: {error}") from None
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise ValueError(f"{path}: expected each column once, got {twice!r} several times")


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ValueError(
            f"{path}: reading tables needs pyarrow: pip install 'thinwire[tables]'"
        ) from None
    return pyarrow


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _size(tensors: tuple[Tensor, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
