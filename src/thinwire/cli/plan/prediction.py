"""What the planner says of one minibatch size, for every method and number of workers."""

from collections.abc import Sequence
from dataclasses import dataclass

from thinwire.plan import Step
from thinwire.plan.methods import METHODS, ONE_BIT, Method, Setting, alone, model_parallel, step


@dataclass(frozen=True)
class Prediction:
    """Predicted steps.

    Attributes:
        minibatch: N.
        workers: processors in all.
        steps: by method, one for each entry of ``workers``; None where they do not divide.
        alone: seconds of a step of plain training on one processor.
    """

    minibatch: int
    workers: list[int]
    steps: dict[Method, list[Step | None]]
    alone: float

    @property
    def pace_alone(self) -> float:
        """Seconds a sample of plain training on one processor."""
        return self.alone / self.minibatch

    @property
    def methods(self) -> list[Method]:
        """In the order of the tables."""
        return list(self.steps)

    def best(self, method: Method) -> tuple[int, Step] | None:
        """(workers, step) of most samples a second; the fewest workers among equals."""
        found = [
            (workers, made)
            for workers, made in zip(self.workers, self.steps[method], strict=True)
            if made is not None
        ]
        return max(found, key=lambda pair: pair[1].samples_per_second, default=None)


def planned_methods(degree: int) -> list[Method]:
    """The methods compared, with model parallelism where it is asked for."""
    return [*METHODS, *([model_parallel(ONE_BIT, degree)] if degree > 1 else [])]


def make_prediction(
    setting: Setting, methods: Sequence[Method], minibatch: int, workers: list[int]
) -> Prediction:
    """Predict every method at every number of workers."""
    steps = {method: [step(setting, method, minibatch, k) for k in workers] for method in methods}
    return Prediction(minibatch, workers, steps, alone(setting, minibatch))
