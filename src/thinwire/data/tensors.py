"""Samples in memory, as two tensors."""

from functools import cached_property

from torch import Tensor

from thinwire.data.source import Change, Dataset, DataSource, Mapped, View, content_digest


class TensorSource:
    """Samples in memory.

    Attributes:
        inputs: [n, ...], one sample per row.
        targets: [n, ...], what a model should answer to them.

    Args:
        inputs: the same.
        targets: the same.
        identity: of the samples these were made from; by default a digest of their own.

    Raises:
        ValueError: inputs have no axis of samples, or the counts differ.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, identity: str = "") -> None:
        if inputs.ndim < 2:
            raise ValueError(f"inputs: got shape {list(inputs.shape)}, expected [n, features]")
        if targets.ndim == 0 or targets.shape[0] != inputs.shape[0]:
            raise ValueError(
                f"targets: got shape {list(targets.shape)}, "
                f"expected {inputs.shape[0]} targets, one per input"
            )
        self.inputs, self.targets, self._identity = inputs, targets, identity

    def __len__(self) -> int:
        return self.inputs.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.inputs.shape[1:])

    @cached_property
    def identity(self) -> str:
        """As given, or a digest of the samples."""
        return self._identity or content_digest(self)

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Read some samples."""
        return self.inputs[numbers], self.targets[numbers]

    def targets_of(self, numbers: Tensor) -> Tensor:
        """Read targets alone."""
        return self.targets[numbers]


def map_samples(dataset: Dataset, inputs: Change, targets: Change) -> Dataset:
    """Send all inputs and targets of a data set through functions of batches.

    What is in memory is changed once and now; anything else as it is read. Views of one source
    stay views of one source.
    """
    changed: dict[int, DataSource] = {}

    def change(source: DataSource) -> DataSource:
        if isinstance(source, View):
            return View(change(source.source), source.numbers)
        if id(source) not in changed:
            changed[id(source)] = _mapped(source, inputs, targets)
        return changed[id(source)]

    return dataset.map(change)


def _mapped(source: DataSource, inputs: Change, targets: Change) -> DataSource:
    if isinstance(source, TensorSource):
        made = inputs(source.inputs), targets(source.targets)
        return TensorSource(*made, identity=source.identity)
    return Mapped(source, inputs, targets)


def inputs_in_memory(source: DataSource) -> Tensor | None:
    """All inputs of a source that holds them in memory, [n, ...]; None for any other."""
    if isinstance(source, View):
        below = inputs_in_memory(source.source)
        return None if below is None else below[source.numbers]
    return source.inputs if isinstance(source, TensorSource) else None
