"""Several recorded runs -> the convergence of each method (``thinwire plan --fit``)."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields

from thinwire.plan.convergence import Law, Reached, fit, reached
from thinwire.plan.goal import Goal
from thinwire.plan.hessian_free_iteration import Job
from thinwire.plan.measured_run import (
    course_of,
    is_hessian_free,
    iteration_of,
    method_of,
    minibatch_of,
    newton_settings_of,
)
from thinwire.report import Run


@dataclass(frozen=True)
class Fitted:
    """What runs say of each method.

    A method is "dense", "1-bit", "1-bit DB", "Hessian-free, CG, sharded" and the like. Where
    Hessian-free runs of one method differ in settings, these are part of the name.

    Attributes:
        goal: what the runs were to reach.
        reached: by method, what its runs needed; methods of which no run got there are missing.
        failed: by method, the labels of runs that never got there.
        laws: by method of SGD that got there, samples needed against the minibatch.
        jobs: by Hessian-free method that got there, its average iteration.
    """

    goal: Goal
    reached: dict[str, list[Reached]]
    failed: dict[str, list[str]]
    laws: dict[str, Law]
    jobs: dict[str, Job]


def fit_runs(runs: Sequence[Run], goal: Goal) -> Fitted:
    """Fit the convergence of every method that runs tell of.

    Raises:
        ValueError: no run reached the goal or measured its metric, or a run lacks what is needed.
    """
    there: dict[str, list[Reached]] = defaultdict(list)
    failed: dict[str, list[str]] = defaultdict(list)
    jobs: dict[str, list[Job]] = defaultdict(list)
    for run, method in zip(runs, comparable_methods(runs), strict=True):
        if is_hessian_free(method):
            jobs[method].append(iteration_of(run))
        found = reached(course_of(run, goal.field), goal, minibatch_of(run))
        if found is None:
            failed[method].append(run.label)
        else:
            there[method].append(found)
    if not there:
        raise ValueError(_why_none(runs, goal))
    return Fitted(
        goal,
        reached=dict(there),
        failed=dict(failed),
        laws={name: fit(found) for name, found in there.items() if name not in jobs},
        jobs={name: _mean(found) for name, found in jobs.items() if name in there},
    )


def comparable_methods(runs: Sequence[Run]) -> list[str]:
    """Return each run's method so that runs of one name may be averaged.

    Hessian-free runs whose curvature is sharded say so, and those that differ from others of their
    method in a setting name the setting.
    """
    names = [method_of(run) for run in runs]
    settings = [newton_settings_of(run) for run in runs]
    for i, run in enumerate(runs):
        if is_hessian_free(names[i]) and not iteration_of(run).replicated:
            names[i] += ", sharded"
    told = list(names)
    for i, own in enumerate(settings):
        alike = [other for name, other in zip(names, settings, strict=True) if name == names[i]]
        for key, value in own.items():
            if any(other.get(key) != value for other in alike):
                told[i] += f", {key} {value}"
    return told


def _mean(jobs: Sequence[Job]) -> Job:
    names = [entry.name for entry in fields(Job) if entry.name != "replicated"]
    means = {name: statistics.fmean(getattr(job, name) for job in jobs) for name in names}
    return Job(**means, replicated=jobs[0].replicated)


def _why_none(runs: Sequence[Run], goal: Goal) -> str:
    if not any(course_of(run, goal.field) for run in runs):
        return f"metric: no run measured {goal.field}; choose one that a run has measured"
    return f"target: no run reached {goal.words}; set one that a run has reached"
