"""What the planner says of one minibatch size, for every method and number of workers."""

from collections.abc import Sequence
from dataclasses import dataclass

from thinwire.plan import Step
from thinwire.plan.methods import (
    METHODS,
    ONE_BIT,
    Method,
    Setting,
    alone,
    k_hat,
    model_parallel,
    step,
)


@dataclass(frozen=True)
class Prediction:
    """Predicted steps.

    Attributes:
        minibatch: N.
        workers: processors in all.
        steps: by method, one for each entry of ``workers``; None where they do not divide.
        alone: seconds of a step of plain training on one processor.
        k_hats: by method, in workers; None where the fixed cost is the limit (S 2.3), infinity
            where the wire never is.
    """

    minibatch: int
    workers: list[int]
    steps: dict[Method, list[Step | None]]
    alone: float
    k_hats: dict[Method, float | None]

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
    k_hats = {method: _k_hat(setting, method, minibatch, steps[method]) for method in methods}
    return Prediction(minibatch, workers, steps, alone(setting, minibatch), k_hats)


def _k_hat(
    setting: Setting, method: Method, minibatch: int, steps: Sequence[Step | None]
) -> float | None:
    """K-hat, unless the exchange takes less than the fixed cost where the method is fastest."""
    parallel = [made for made in steps if made is not None and made.workers > 1]
    best = max(parallel, key=lambda made: made.samples_per_second, default=None)
    if best is not None and best.comm < best.upd + best.rest:
        return None
    return k_hat(setting, method, minibatch) * method.model_parallel
