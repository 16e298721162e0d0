"""Samples a user's own function gives: any map-style torch Dataset, or a source."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import default_collate

from thinwire.data.source import DataSource, content_digest
from thinwire.named_function import find_function


class Rows(Protocol):
    """A map-style data set: samples (input, target) by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class RowSource:
    """The samples of a map-style torch Dataset, fetched when they are asked for.

    Args:
        rows: gives (input, target) by number; a ``__getitems__``, if it has one, is used to fetch
            several at once, as torch's DataLoader does.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input; a number is a vector of one."""
        return tuple(self._collated([0])[0].shape[1:]) or (1,)

    @cached_property
    def identity(self) -> str:
        """A digest of the content."""
        return content_digest(self)

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Read some samples; inputs of double precision become float32."""
        if not len(numbers):  # no samples still have a shape, which another one tells
            inputs, targets = self.batch(torch.zeros(1, dtype=torch.int64))
            return inputs[:0], targets[:0]
        inputs, targets = self._collated(numbers.tolist())
        inputs = inputs.reshape(len(numbers), *self.shape)
        return _single(inputs), _single(targets)

    def targets_of(self, numbers: Tensor) -> Tensor:
        """Read targets alone."""
        return self.batch(numbers)[1]

    def _collated(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        fetch = getattr(self._rows, "__getitems__", None)
        samples = fetch(list(numbers)) if fetch else [self._rows[number] for number in numbers]
        for number, sample in zip(numbers, samples, strict=True):
            if not isinstance(sample, tuple | list) or len(sample) != 2:
                raise ValueError(
                    f"sample {number}: expected (input, target), got a {type(sample).__name__}"
                )
        try:
            inputs, targets = default_collate([tuple(sample) for sample in samples])
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"samples {numbers[0]} to {numbers[-1]}: {error}") from error
        if not isinstance(inputs, Tensor) or not isinstance(targets, Tensor):
            raise ValueError(
                f"sample {numbers[0]}: expected an input and a target that are tensors, arrays or "
                "numbers"
            )
        return inputs, targets


def from_function(name: str) -> tuple[DataSource, DataSource | None]:
    """Call a user's function, which returns a data set, or a pair of them: training and test.

    Args:
        name: "package.module:function"; it is called without arguments.

    Returns:
        The training source, and the test source if there is one.

    Raises:
        ValueError: there is no such function, or it returns something else.
    """
    made = find_function(name)()
    if isinstance(made, tuple) and len(made) == 2:
        return _source(made[0], name), _source(made[1], name)
    return _source(made, name), None


def _source(made: Any, name: str) -> DataSource:
    if isinstance(made, DataSource):
        return made
    if not (hasattr(made, "__len__") and hasattr(made, "__getitem__")) or isinstance(made, tuple):
        raise ValueError(
            f"{name} must return a data set with __len__ and __getitem__, or a pair of them "
            f"(training, test); got a {type(made).__name__}"
        )
    return RowSource(made)


def _single(values: Tensor) -> Tensor:
    return values.float() if values.dtype == torch.float64 else values
