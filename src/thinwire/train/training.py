"""What the loop asks of an algorithm: a state that can be stored, steps, and what to tell of them.

``minibatch`` and ``hessian_free`` have one class each that does this.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from thinwire.exchange import Ledger, Wire
from thinwire.train.checkpoint import Checkpoint, Facts
from thinwire.train.counts import Counts
from thinwire.train.grid import Grid
from thinwire.train.tasks import Scores


class State(Protocol):
    """One worker's state of a run.

    Attributes:
        model: the network.
        counts: totals.
        last_epoch: the last evaluation's event.
    """

    model: nn.Module
    counts: Counts
    last_epoch: dict[str, Any]

    def replica(self) -> AbstractContextManager[None]:
        """While it lasts, the model is the one that all workers share."""

    def shared(self) -> Facts:
        """What is the same on every worker, model apart, as JSON can say it."""

    def own(self) -> tuple[dict[str, Tensor], Facts]:
        """What this worker stores beside: tensors and facts."""

    def restore(self, checkpoint: Checkpoint, rank: int, world: int) -> None:
        """Go on from a checkpoint, whatever the number of workers that wrote it."""


@dataclass(frozen=True)
class Told:
    """Something that happened in a step.

    Attributes:
        event: its kind: "step", "skip", "selection", ...
        fields: of the event, beside the counts.
        line: what a person is told, if that is not the event itself.
    """

    event: str
    fields: dict[str, Any]
    line: str = ""


class Training(Protocol):
    """An algorithm at work on a job."""

    @property
    def state(self) -> State:
        """What a checkpoint stores."""

    @property
    def ledger(self) -> Ledger:
        """This worker's traffic."""

    @property
    def grid(self) -> Grid:
        """Who shares the samples, and who a model."""

    @property
    def finished(self) -> bool:
        """Whether the last step the recipe asks for has been done."""

    @property
    def epochs(self) -> float:
        """Effective passes over the training data."""

    @property
    def evaluation_due(self) -> bool:
        """Whether errors are to be measured after the last step."""

    def expected_step_seconds(self) -> float:
        """What the next step may take where those before it do not tell."""

    def step(self) -> list[Told]:
        """One minibatch, one trial or one outer iteration; every worker calls it."""

    def averages(self) -> Scores | None:
        """Training loss and metrics as averaged since the last evaluation; None: evaluate them."""

    def times(self, wire: Wire) -> dict[str, Any] | None:
        """What the summary says of a mean step's seconds (``breakdown``); None: nothing."""

    def finish(self) -> list[Told] | None:
        """After the last step: complete what it left in flight; None if that was nothing."""

    def compare(self, wire: Wire, sent: float) -> dict[str, Any]:
        """What else the summary says, above all of ``sent`` bytes beside a dense exchange's."""

    def close(self) -> None:
        """Give back threads and process groups."""
