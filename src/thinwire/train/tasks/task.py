"""What the trainer asks of a task: a loss, metrics by name, and which of them decides.

A metric is made of sums over samples, because sums add up: over the batches of an epoch, over the
workers, and over the parts of a run that was stopped in between.
"""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor

from thinwire.models import Loss

Scores = dict[str, float | None]
"""Values by name of metric, "loss" among them; None where a model has no such value."""


@dataclass(frozen=True)
class Metric:
    """A quantity that tells how good a model is.

    Attributes:
        name: in events: "train_NAME", "test_NAME".
        title: for people.
        higher_is_better: which way is better.
        percent: whether it is a fraction, which people read in per cent.
        thresholds: values on the training samples of which reports tell what reaching them cost.
    """

    name: str
    title: str
    higher_is_better: bool = False
    percent: bool = False
    thresholds: tuple[float, ...] = ()

    @property
    def plural(self) -> str:
        """What a list of its values is called in events."""
        return f"{self.name[:-1]}ies" if self.name.endswith("y") else f"{self.name}_values"

    def text(self, value: float) -> str:
        """Write a value for people.

        >>> Metric("error", "error", percent=True).text(0.0203), Metric("mse", "mse").text(12.3456)
        ('2.03 %', '12.35')
        """
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4g}"

    def better_than(self, value: float, margin: float) -> str:
        """Say what would be better than a value by a margin: "above 97.10 %"."""
        if self.higher_is_better:
            return f"above {self.text(value + margin)}"
        return f"below {self.text(value - margin)}"

    def told(self) -> dict[str, Any]:
        """Describe the metric for the start event, so that reports need not know the task."""
        return {**asdict(self), "plural": self.plural}


class Task(Protocol):
    """What is learnt from the samples of one data set."""

    @property
    def loss(self) -> Loss:
        """(outputs, targets) -> mean over the samples."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What events tell, beside the loss."""

    @property
    def decides(self) -> Metric:
        """What held-out evaluations and the choice of a minibatch size go by."""

    @property
    def outputs(self) -> int:
        """Values a model gives for each sample: the width of a perceptron's last layer."""

    @property
    def sums(self) -> int:
        """How many sums ``measure`` gives."""

    def convert(self, targets: Tensor) -> Tensor:
        """Turn targets as a source gives them, [m, ...], into what loss and metrics take."""

    def measure(self, outputs: Any, targets: Tensor) -> Tensor:
        """Sum up over a batch what the metrics are made of.

        Args:
            outputs: the model's, without a graph.
            targets: [N, ...], converted.

        Returns:
            float64 [sums]; NaN where such outputs have no value.
        """

    def scores(self, sums: Tensor, samples: float) -> Scores:
        """Make values of the metrics, and of the deciding one, from sums over all samples.

        Args:
            sums: float64 [sums], added up.
            samples: over how many.
        """


def reported(task: Task, scores: Scores, prefix: str = "") -> Scores:
    """The loss and the task's metrics as events name them.

    Args:
        task: whose metrics; others, such as a deciding one that is not told, are left out.
        scores: values by name.
        prefix: "train_" or "test_".
    """
    names = ("loss", *(metric.name for metric in task.metrics))
    return {prefix + name: scores[name] for name in names}
