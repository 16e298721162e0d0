"""Tensors laid end to end in one flat buffer, in the order in which they travel."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from thinwire.quantize.columns import Axis, Columns, column_lengths


class FlatSpace:
    """The flat buffer of several parameters: where each lives and how it is cut into columns.

    The wire order of a parameter is its own memory order, or with ``axis="input"`` that of its
    transpose ([input, output]), so that columns are always consecutive values.

    Args:
        shapes: one shape for each parameter; scalars and empty ones are allowed.
        axis: see ``columns``.
    """

    def __init__(self, shapes: Sequence[torch.Size], axis: Axis = "output") -> None:
        self.shapes = list(shapes)
        self.axis = axis
        lengths = [column_lengths(shape, axis) for shape in self.shapes]
        self.columns = Columns.from_lengths(n for column in lengths for n in column)
        ends = itertools.accumulate((math.prod(shape) for shape in self.shapes), initial=0)
        self.ranges = list(itertools.pairwise(ends))

    @property
    def values(self) -> int:
        """Values in the buffer."""
        return self.columns.values

    def views(self, buffer: Tensor) -> list[Tensor]:
        """Views into ``buffer`` ([values]), one of each parameter's shape."""
        return [
            from_wire(buffer[start:stop], shape, self.axis)
            for (start, stop), shape in zip(self.ranges, self.shapes, strict=True)
        ]

    def collect(self, tensors: Sequence[Tensor | None], buffer: Tensor) -> None:
        """Copy one tensor for each parameter into ``buffer``, widening to its dtype; None is 0."""
        given = [
            (view, tensor)
            for view, tensor in zip(self.views(buffer), tensors, strict=True)
            if tensor is not None
        ]
        if len(given) < len(tensors):
            buffer.zero_()
        if given:
            torch._foreach_copy_([view for view, _ in given], [tensor for _, tensor in given])

    def subtract(self, buffer: Tensor, tensors: Sequence[Tensor]) -> None:
        """Subtract ``buffer`` ([values]) from one tensor for each parameter, in place.

        Each difference is computed in the wider of both dtypes and rounded once.
        """
        torch._foreach_sub_(list(tensors), self.views(buffer))

    def owner_of(self, value: int) -> int:
        """The index of the parameter that holds the value at this index of the buffer."""
        return next(i for i, (start, stop) in enumerate(self.ranges) if start <= value < stop)

    def overlaps(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """The parts of a range that belong to each parameter.

        Returns:
            (parameter, first, last): the range covers wire-order values ``first .. last - 1`` of
            that parameter.
        """
        return [
            (i, max(start, first) - first, min(stop, last) - first)
            for i, (first, last) in enumerate(self.ranges)
            if max(start, first) < min(stop, last)
        ]


def to_wire(tensor: Tensor, axis: Axis) -> Tensor:
    """One parameter's values, flat and in the order in which they travel."""
    if axis == "input" and tensor.dim() > 1:
        tensor = tensor.movedim(0, -1)
    return tensor.reshape(-1)


def from_wire(flat: Tensor, shape: torch.Size, axis: Axis) -> Tensor:
    """The inverse of ``to_wire``: a view of the parameter's shape.

    >>> weight = torch.arange(6).view(2, 3)
    >>> to_wire(weight, "input").tolist()
    [0, 3, 1, 4, 2, 5]
    >>> from_wire(to_wire(weight, "input"), weight.shape, "input").tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    if axis == "output" or len(shape) < 2:
        return flat.view(shape)
    transposed = flat.view(*shape[1:], shape[0])
    return transposed.movedim(-1, 0)
