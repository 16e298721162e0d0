"""Time to a target error: steps needed times what a step takes, at the best minibatch."""

from collections.abc import Sequence
from dataclasses import dataclass

from thinwire.plan import hessian_free, methods
from thinwire.plan.convergence import Law, Reached
from thinwire.plan.methods import Method, Setting

TRY = 9  # minibatch sizes tried between the smallest and the largest measured


@dataclass(frozen=True)
class Answer:
    """How fast a method gets there.

    Attributes:
        seconds: training time.
        workers: processors.
        minibatch: N, the best of those tried.
        steps: updates needed.
    """

    seconds: float
    workers: int
    minibatch: int
    steps: float


def sgd_time(setting: Setting, method: Method, law: Law, processors: int) -> Answer | None:
    """The least time over minibatch sizes within what was measured.

    Returns:
        The answer; None if the processors do not divide by the method's model parallelism.
    """
    answers = []
    for minibatch in _sizes(law):
        step = methods.step(setting, method, minibatch, processors)
        if step is None:
            return None
        steps = law.steps(minibatch)
        answers.append(Answer(steps * step.seconds, processors, minibatch, steps))
    return min(answers, key=lambda answer: answer.seconds)


def hessian_free_time(
    setting: Setting, runs: Sequence[Reached], job: hessian_free.Job, workers: int
) -> Answer:
    """Iterations needed on average, times one iteration."""
    steps = sum(run.steps for run in runs) / len(runs)
    seconds = steps * hessian_free.predict(setting, job, workers).seconds
    return Answer(seconds, workers, round(job.samples), steps)


def _sizes(law: Law) -> list[int]:
    """From the smallest to the largest measured size, evenly in ratio."""
    ratio = (law.largest / law.smallest) ** (1 / (TRY - 1))
    return sorted({round(law.smallest * ratio**i) for i in range(TRY)})
