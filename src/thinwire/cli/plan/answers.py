"""Time to the target error for every method of which runs tell, SGD and Hessian-free alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from thinwire.cli.plan.runs import Fitted
from thinwire.plan import hessian_free
from thinwire.plan.convergence import Law, fit
from thinwire.plan.methods import DENSE, DOUBLE_BUFFERED, FP16, ONE_BIT, Method, Setting
from thinwire.plan.target import Answer, hessian_free_time, sgd_time

# Whose convergence a method without runs of its own may borrow.
BORROWS = {FP16.name: DENSE.name, DOUBLE_BUFFERED.name: ONE_BIT.name}


@dataclass(frozen=True)
class Answers:
    """Times to the target.

    Attributes:
        workers: processors in all.
        by_method: by name, one answer for each entry of ``workers``.
        laws: of SGD methods with runs.
        borrowed: methods that converge as another was measured to.
        jobs: by Hessian-free method with runs, its iteration.
    """

    workers: list[int]
    by_method: dict[str, list[Answer | None]]
    laws: dict[str, Law]
    borrowed: set[str]
    jobs: dict[str, hessian_free.Job]


def make_answers(
    setting: Setting,
    methods: Sequence[Method],
    fitted: Fitted,
    workers: list[int],
) -> Answers:
    """Combine predicted steps with measured convergence."""
    laws = {name: fit(runs) for name, runs in fitted.reached.items() if name not in fitted.jobs}
    by_method: dict[str, list[Answer | None]] = {}
    borrowed = set()
    for method in methods:
        law = laws.get(method.name)
        if law is None:
            law = laws.get(BORROWS.get(method.name, method.name.rsplit(" MP", 1)[0]))
            borrowed.add(method.name)
        if law is not None:
            by_method[method.name] = [sgd_time(setting, method, law, k) for k in workers]
    for name, job in fitted.jobs.items():
        runs = fitted.reached[name]
        by_method[name] = [hessian_free_time(setting, runs, job, k) for k in workers]
    return Answers(workers, by_method, laws, borrowed & by_method.keys(), fitted.jobs)
