"""Time to the goal: steps needed times what a step takes, at the best minibatch."""

from collections.abc import Sequence
from dataclasses import dataclass

from thinwire.plan import hessian_free_iteration, methods
from thinwire.plan.convergence import Law, Reached
from thinwire.plan.fitting import Fitted
from thinwire.plan.methods import DENSE, DOUBLE_BUFFERED, FP16, ONE_BIT, Method
from thinwire.plan.setting import Setting

TRY = 9  # minibatch sizes tried between the smallest and the largest measured
# Whose convergence a method without runs of its own may borrow.
BORROWS = {FP16.name: DENSE.name, DOUBLE_BUFFERED.name: ONE_BIT.name}


@dataclass(frozen=True)
class Answer:
    """How fast a method gets there.

    Attributes:
        seconds: training time.
        workers: processors.
        minibatch: N, the best of those tried; of Hessian-free methods the whole data.
        steps: updates needed.
    """

    seconds: float
    workers: int
    minibatch: int
    steps: float


@dataclass(frozen=True)
class TimesToTarget:
    """How fast every method of which runs tell gets to the goal, SGD and Hessian-free alike.

    Attributes:
        workers: processors in all.
        by_method: by name, one answer for each entry of ``workers``; None where they do not divide
            by the method's model parallelism.
        borrowed: methods that converge as another was measured to.
        fitted: the convergence behind the answers.
    """

    workers: list[int]
    by_method: dict[str, list[Answer | None]]
    borrowed: set[str]
    fitted: Fitted


def times_to_target(
    setting: Setting, planned: Sequence[Method], fitted: Fitted, workers: list[int]
) -> TimesToTarget:
    """Combine predicted steps with measured convergence.

    Args:
        setting: where the methods run.
        planned: the methods of SGD that are compared; those without a law to use are left out.
        fitted: what runs needed.
        workers: processors in all, to answer for.
    """
    by_method: dict[str, list[Answer | None]] = {}
    borrowed = set()
    for method in planned:
        law = fitted.laws.get(method.name)
        if law is None:
            law = fitted.laws.get(BORROWS.get(method.name, method.name.rsplit(" MP", 1)[0]))
            borrowed.add(method.name)
        if law is not None:
            by_method[method.name] = [sgd_time(setting, method, law, k) for k in workers]
    for name, job in fitted.jobs.items():
        runs = fitted.reached[name]
        by_method[name] = [hessian_free_time(setting, runs, job, k) for k in workers]
    return TimesToTarget(workers, by_method, borrowed & by_method.keys(), fitted)


def sgd_time(setting: Setting, method: Method, law: Law, processors: int) -> Answer | None:
    """Return the least time over minibatch sizes within what was measured.

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
    setting: Setting, runs: Sequence[Reached], job: hessian_free_iteration.Job, workers: int
) -> Answer:
    """Return the iterations needed on average, times one iteration."""
    steps = sum(run.steps for run in runs) / len(runs)
    seconds = steps * hessian_free_iteration.predict(setting, job, workers).seconds
    return Answer(seconds, workers, round(job.samples), steps)


def _sizes(law: Law) -> list[int]:
    """From the smallest to the largest measured size, evenly in ratio."""
    ratio = (law.largest / law.smallest) ** (1 / (TRY - 1))
    return sorted({round(law.smallest * ratio**i) for i in range(TRY)})
