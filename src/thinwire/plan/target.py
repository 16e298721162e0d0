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


def hessian_free_job(
    runs: Sequence[Reached], train_samples: int, curvature_samples: int | None
) -> hessian_free.Job:
    """The average iteration of measured Hessian-free runs.

    Args:
        runs: of one setting; their communications are one gradient and the products.
        train_samples: samples of the gradient, and of each trial of the line search.
        curvature_samples: of a product. Where it is not known, a run's samples beyond the
        gradient's are
            taken to have gone through its products.

    Raises:
        ValueError: runs that say nothing.
    """
    steps = sum(run.steps for run in runs)
    if not steps > 0:
        raise ValueError("runs: expected Hessian-free iterations, got none")
    products = max(0.0, sum(run.communications for run in runs) / steps - 1)
    if curvature_samples is None:
        beyond = max(0.0, sum(run.samples for run in runs) / steps - train_samples)
        curvature_samples = round(beyond / products) if products else 0
    # Communications of the line search are scalars, which runs do not count; one trial is the
    # least.
    return hessian_free.Job(train_samples, curvature_samples, products, 1, train_samples)


def hessian_free_time(
    setting: Setting, runs: Sequence[Reached], job: hessian_free.Job, workers: int
) -> Answer:
    """Iterations needed on average, times one iteration."""
    steps = sum(run.steps for run in runs) / len(runs)
    seconds = steps * hessian_free.predict(setting, job, workers).seconds
    return Answer(seconds, workers, round(job.gradient_samples), steps)


def _sizes(law: Law) -> list[int]:
    """From the smallest to the largest measured size, evenly in ratio."""
    ratio = (law.largest / law.smallest) ** (1 / (TRY - 1))
    return sorted({round(law.smallest * ratio**i) for i in range(TRY)})
