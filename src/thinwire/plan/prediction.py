"""What the planner says of one minibatch size, for every method and number of workers."""

from collections.abc import Sequence
from dataclasses import dataclass

from thinwire.plan.methods import METHODS, ONE_BIT, Method, alone, k_hat, model_parallel, step
from thinwire.plan.setting import Setting
from thinwire.plan.step import Step


@dataclass(frozen=True)
class Prediction:
    """Predicted steps.

    Attributes:
        minibatch: N.
        workers: processors in all.
        steps: by method, one for each entry of ``workers``; None where they do not divide.
        alone: seconds of a step of plain training on one processor.
        k_hats: by method, in workers; None where the fixed cost is the limit [Seide 2014,
            section 2.3], infinity where the wire never is.
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
        """The methods in the order of the tables."""
        return list(self.steps)

    def made(self, method: Method) -> list[tuple[int, Step]]:
        """Return (workers, step) wherever the workers divide by the model parallelism."""
        pairs = zip(self.workers, self.steps[method], strict=True)
        return [(workers, step) for workers, step in pairs if step is not None]

    def speed_up(self, step: Step) -> float:
        """Return how many times as fast a step is as plain training on one processor."""
        return step.samples_per_second * self.pace_alone

    def best(self, method: Method) -> tuple[int, Step] | None:
        """Return (workers, step) of most samples a second; the fewest workers among equals."""
        found = self.made(method)
        return max(found, key=lambda pair: pair[1].samples_per_second, default=None)

    def fastest(self, workers: int) -> tuple[Method, Step] | None:
        """Return the method of most samples a second on so many workers, and its step.

        Returns:
            None where no method runs on this number.
        """
        found = [
            (method, step)
            for method in self.methods
            for count, step in self.made(method)
            if count == workers
        ]
        return max(found, key=lambda pair: pair[1].samples_per_second, default=None)


def planned_methods(degree: int, local: Sequence[Method] = ()) -> list[Method]:
    """Return the methods compared.

    Args:
        degree: workers that share a model; above 1 such a method is compared too.
        local: methods with local steps to compare.
    """
    return [*METHODS, *([model_parallel(ONE_BIT, degree)] if degree > 1 else []), *local]


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
