"""What the trainer asks of a data set: samples by number, whatever they are stored in.

Every format is one implementation of `DataSource`. `View` and `Mapped` are sources made from other
sources; neither copies what lies below it.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from thinwire.data.order import Order, Shuffled, Windows, seeded

IDENTITY_SAMPLES = 1024
CHUNK = 4096  # samples read at once where all are gone through

Change = Callable[[Tensor], Tensor]
"""Inputs or targets of a batch [m, ...] -> what they become [m, ...]."""


@runtime_checkable
class DataSource(Protocol):
    """Samples by number; they need not fit into memory."""

    def __len__(self) -> int:
        """Return the number of samples."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""

    @property
    def identity(self) -> str:
        """A short text that other samples would not have; `content_digest` makes one."""

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Read some samples.

        Args:
            numbers: int64 [m], each in [0, len(self)).

        Returns:
            Inputs [m, *shape] and targets [m, ...], in the order of the numbers.
        """

    def targets_of(self, numbers: Tensor) -> Tensor:
        """Read the targets alone, as ``batch`` gives them, without reading inputs if possible."""


class RunSource(DataSource, Protocol):
    """Samples that lie in runs and are read a run at a time, such as the frames of utterances.

    An epoch goes through them a window at a time, so that they need not fit into memory, and whole
    runs are trained on, held out or tested on.
    """

    @property
    def ends(self) -> Tensor:
        """Where each run ends, int64 [runs]; run 0 begins with sample 0."""

    @property
    def groups(self) -> Tensor:
        """The group of each run, int64 [runs]; the runs of one speaker are a group."""

    @property
    def window(self) -> int:
        """How many samples are kept in memory."""

    def part(self, runs: Tensor) -> "RunSource":
        """Return the source of some runs, int64 in rising order."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test source of the same kind of samples.

    Attributes:
        train: what is trained on.
        test: what is only measured on.
        classes: number of classes, if every target is a class number in [0, classes); None: unknown
            or no classes.
        name: for reports.
        held_out: taken from the training samples to decide by; neither trained nor tested on.
        labels: what the class numbers stand for, where the files hold words.
    """

    train: DataSource
    test: DataSource
    classes: int | None
    name: str
    held_out: DataSource | None = None
    labels: tuple[str, ...] = ()

    def map(self, change: Callable[[DataSource], DataSource]) -> "Dataset":
        """Return the data set with every source changed."""
        held_out = None if self.held_out is None else change(self.held_out)
        return replace(self, train=change(self.train), test=change(self.test), held_out=held_out)


class View:
    """Some samples of a source, by their numbers in it.

    Args:
        source: where they are. A view of a view refers to what lies below both.
        numbers: int64 [n].
    """

    def __init__(self, source: DataSource, numbers: Tensor) -> None:
        if isinstance(source, View):
            numbers, source = source.numbers[numbers], source.source
        self.source: DataSource = source
        self.numbers: Tensor = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.source.shape

    @property
    def identity(self) -> str:
        """That of the source and of the numbers."""
        chosen = hashlib.sha256(self.numbers.numpy().tobytes()).hexdigest()[:16]
        return f"{self.source.identity}/{chosen}"

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Read some samples."""
        return self.source.batch(self.numbers[numbers])

    def targets_of(self, numbers: Tensor) -> Tensor:
        """Read targets alone."""
        return self.source.targets_of(self.numbers[numbers])


class Mapped:
    """A source whose inputs and targets go through a function as they are read.

    It keeps the identity of what lies below: what the functions do is the recipe's.

    Args:
        source: what is read.
        inputs: inputs [m, ...] -> inputs [m, ...].
        targets: the same for targets.
    """

    def __init__(self, source: DataSource, inputs: Change, targets: Change) -> None:
        self.source, self._inputs, self._targets = source, inputs, targets
        self._shape = tuple(self.batch(torch.arange(1))[0].shape[1:])

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self._shape

    @property
    def identity(self) -> str:
        """That of the source."""
        return self.source.identity

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Read some samples."""
        inputs, targets = self.source.batch(numbers)
        return self._inputs(inputs), self._targets(targets)

    def targets_of(self, numbers: Tensor) -> Tensor:
        """Read targets alone."""
        return self._targets(self.source.targets_of(numbers))


def lies_in_runs(source: DataSource) -> TypeGuard[RunSource]:
    """Tell whether the samples of a source lie in runs."""
    return hasattr(source, "part")  # isinstance would ask for the identity, which takes long


def order_of(source: DataSource) -> Order:
    """Return the order in which an epoch goes through a source."""
    if isinstance(source, Mapped):
        return order_of(source.source)
    if lies_in_runs(source):
        return Windows(source.ends, source.window)
    return Shuffled(len(source))


def chunks(size: int) -> Iterator[Tensor]:
    """Go through the numbers 0 to size - 1 in order, some at a time."""
    for first in range(0, size, CHUNK):
        yield torch.arange(first, min(first + CHUNK, size))


def evenly_spaced(size: int, most: int) -> Tensor:
    """Choose numbers in [0, size): all of them, or ``most`` at equal distances with both ends.

    >>> evenly_spaced(3, 5).tolist(), evenly_spaced(101, 3).tolist()
    ([0, 1, 2], [0, 50, 100])
    """
    if size <= most:
        return torch.arange(size)
    return torch.arange(most) * (size - 1) // (most - 1)


def content_digest(source: DataSource) -> str:
    """Return a digest of a source's content that costs the same for 50 GB as for 50 MB.

    It covers the number of samples and the shapes, types and bytes of 1,024 evenly spaced samples
    (of all, if there are no more). A run that goes on with other data is refused if any of these
    differ: a change to a share f of the samples goes unnoticed with probability (1 - f)^1024.
    """
    numbers = evenly_spaced(len(source), IDENTITY_SAMPLES)
    digest = hashlib.sha256(f"{len(source)}\n".encode())
    for part in numbers.split(256):
        for tensor in source.batch(part):
            digest.update(f"{tensor.dtype} {[*tensor.shape]}\n".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def split_off(size: int, samples: int, words: str) -> tuple[Tensor, Tensor]:
    """Draw some of ``size`` numbers at random, by the words and nothing else.

    Returns:
        The others and those drawn, each int64 in rising order.
    """
    order = torch.randperm(size, generator=seeded(words))
    return order[samples:].sort().values, order[:samples].sort().values


def hold_out(dataset: Dataset, samples: int, seed: int) -> Dataset:
    """Take some training samples away, chosen at random by the seed and nothing else.

    Of a `RunSource` whole runs are taken, as few as have so many samples.

    Args:
        dataset: all of it.
        samples: how many, 1 to one less than there are training samples.
        seed: in [0, 2**63).

    Returns:
        The data set with `held_out`; both parts are of the training source, in its order.

    Raises:
        ValueError: the number is out of range.
    """
    size = len(dataset.train)
    if not 1 <= samples < size:
        raise ValueError(f"held_out: expected 1 to {size - 1} of {size} samples, got {samples}")
    words, source = f"{seed} held out", dataset.train
    if lies_in_runs(source):
        train, held_out = split_runs(source, torch.arange(len(source.ends)), samples, words)
        return replace(dataset, train=train, held_out=held_out)
    others, drawn = split_off(size, samples, words)
    return replace(dataset, train=View(source, others), held_out=View(source, drawn))


def split_runs(
    source: RunSource, groups: Tensor, samples: int, words: str
) -> tuple[RunSource, RunSource]:
    """Draw groups of runs, by the words alone, until they have enough samples.

    Args:
        source: at least two groups.
        groups: int64 [runs], what stays together.
        samples: how many, at least 1.
        words: what is drawn by.

    Returns:
        The others and those drawn; neither is empty.

    Raises:
        ValueError: there is only one group.
    """
    names, group = groups.unique(return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"expected two groups of samples to split, such as speakers, or more; got {len(names)}"
        )
    lengths = source.ends.diff(prepend=source.ends.new_zeros(1))
    sizes = torch.zeros(len(names), dtype=torch.int64).index_add_(0, group, lengths)
    order = torch.randperm(len(names), generator=seeded(words))
    reached = sizes[order].cumsum(0)
    count = min(int(torch.searchsorted(reached, samples)) + 1, len(names) - 1)
    drawn = torch.zeros(len(names), dtype=torch.bool)
    drawn[order[:count]] = True
    runs = drawn[group]
    return source.part((~runs).nonzero()[:, 0]), source.part(runs.nonzero()[:, 0])
