"""What Hessian-free optimisation minimises: the mean loss over a source."""

import torch
from torch import Tensor, nn

from thinwire.curvature import Batch
from thinwire.curvature.probe import PROBED
from thinwire.data import DataSource, TensorSource
from thinwire.models import Loss
from thinwire.optim import Objective


def objective_of(model: nn.Module, loss: Loss, source: DataSource) -> Objective:
    """The mean loss of a model over all samples of a source.

    Raises:
        ValueError: as ``Objective``.
    """
    if isinstance(source, TensorSource):  # rows in order are views, not copies
        return Objective(model, loss, (source.inputs, source.targets))
    return _SourceObjective(model, loss, source)


def probe(model: nn.Module, loss: Loss, source: DataSource) -> None:
    """Raise ValueError unless Hessian-free optimisation can work with the model."""
    Objective(model, loss, source.batch(torch.arange(min(PROBED, len(source)))))


class _Rows:
    """A source as the map-style data set an ``Objective`` asks for."""

    def __init__(self, source: DataSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self.source.batch(torch.tensor([index]))
        return inputs[0], targets[0]


class _SourceObjective(Objective):
    """An objective that reads a batch at once."""

    def __init__(self, model: nn.Module, loss: Loss, source: DataSource) -> None:
        self._source = source
        super().__init__(model, loss, _Rows(source))

    def rows(self, indices: range | Tensor) -> Batch:
        """The samples of these numbers, in order."""
        return self._source.batch(_numbers(indices))


def _numbers(indices: range | Tensor) -> Tensor:
    return torch.arange(indices.start, indices.stop) if isinstance(indices, range) else indices
