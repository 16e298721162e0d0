"""Run folders -> measured convergence, by method (``--fit``)."""

import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from thinwire.plan.convergence import Progress, Reached, reached
from thinwire.plan.hessian_free import Job
from thinwire.report import Run, load_runs
from thinwire.report.run import number

HESSIAN_FREE = "Hessian-free"


@dataclass(frozen=True)
class Fitted:
    """What runs say of each method.

    Attributes:
        reached: by method ("dense", "1-bit", "1-bit DB", "Hessian-free, CG, sharded", ...); where
            Hessian-free runs of one method differ in settings, these are part of the name.
        failed: labels of runs that never reached the target, by method.
        jobs: by Hessian-free method, its average iteration.
    """

    reached: dict[str, list[Reached]] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)


def load_fitted(folders: Iterable[Path], target: float, metric: str) -> Fitted:
    """Read runs.

    Args:
        folders: run folders.
        target: error as a fraction.
        metric: "test" or "train".

    Raises:
        OSError, ValueError: a run cannot be read or lacks what is needed.
    """
    fitted, runs = Fitted(), load_runs(folders)
    jobs: dict[str, list[Job]] = {}
    for run, method in zip(runs, _names(runs), strict=True):
        if method.startswith(HESSIAN_FREE):
            jobs.setdefault(method, []).append(iteration_of(run))
        found = reached(course(run, metric), target, minibatch_of(run))
        if found is None:
            fitted.failed.setdefault(method, []).append(run.label)
        else:
            fitted.reached.setdefault(method, []).append(found)
    if not fitted.reached:
        raise ValueError(f"--fit: no run reached {100 * target:g} % {metric} error; raise --target")
    fitted.jobs.update({name: _mean(jobs[name]) for name in jobs if name in fitted.reached})
    return fitted


def _names(runs: Sequence[Run]) -> list[str]:
    """Each run's method; only runs of the same settings may be averaged, so others say theirs."""
    names, settings = [method_of(run) for run in runs], [_newton_settings(run) for run in runs]
    for i, run in enumerate(runs):
        if names[i].startswith(HESSIAN_FREE) and not iteration_of(run).replicated:
            names[i] += ", sharded"
    told = list(names)
    for i, own in enumerate(settings):
        alike = [other for name, other in zip(names, settings, strict=True) if name == names[i]]
        for key, value in own.items():
            if any(other.get(key) != value for other in alike):
                told[i] += f", {key} {value}"
    return told


def _newton_settings(run: Run) -> dict[str, object]:
    """What decides about a Hessian-free run's iterations, but for how many and where."""
    recipe = run.start.get("recipe")
    settings = recipe.get("hessian_free") if isinstance(recipe, dict) else None
    if not isinstance(settings, dict):
        return {}
    return {k: v for k, v in settings.items() if k not in ("iterations", "curvature")}


def iteration_of(run: Run) -> Job:
    """The average iteration of a Hessian-free run, as its step events and recipe tell.

    The first gradient is where the run begins; then every line search computes its first trial's,
    which the next iteration begins with unless another trial was taken.

    Raises:
        ValueError: something of it is not told.
    """
    n, recipe = number(run.start, "train_samples"), run.start.get("recipe")
    settings = recipe.get("hessian_free") if isinstance(recipe, dict) else None
    batch = number(settings, "curvature_batch") if isinstance(settings, dict) else None
    counts = ("products", "candidates", "trials", "alpha")
    told = [[number(event, name) for name in counts] for event in run.steps]
    if not isinstance(settings, dict) or n is None or batch is None or not told:
        raise ValueError(
            f"{run.folder}: expected train_samples, hessian_free.curvature_batch and step events"
        )
    rows = [[value for value in row if value is not None] for row in told]
    if any(len(row) < len(counts) for row in rows):
        raise ValueError(f"{run.folder}: expected {', '.join(counts)} in every step event")
    steps = len(rows)
    products, candidates, trials, _ = (sum(column) / steps for column in zip(*rows, strict=True))
    anew = 1 + sum(alpha != 1 for *_, alpha in rows[:-1])
    sent = number(run.steps[-1], "communications") or 0
    curvature = settings.get("curvature")
    replicated = curvature != "sharded" and not (curvature == "auto" and sent > products * steps)
    return Job(
        samples=n,
        batch=min(batch, n),
        gradients=1 + anew / steps,
        losses=trials - 1,
        products=products,
        candidates=candidates,
        replicated=replicated,
    )


def _mean(jobs: Sequence[Job]) -> Job:
    names = [entry.name for entry in fields(Job) if entry.name != "replicated"]
    means = {name: statistics.fmean(getattr(job, name) for job in jobs) for name in names}
    return Job(**means, replicated=jobs[0].replicated)


def method_of(run: Run) -> str:
    """The planner's name for what a run did; a Hessian-free run's own, "Hessian-free, CG" or so.

    Raises:
        ValueError: the planner does not know it.
    """
    said = str(run.result.get("method") or run.start.get("method") or "")
    name = said.lower()
    if "hessian" in name:
        return said
    if "1-bit" in name or name == "onebit":
        buffered = "double" in name or _setting(run, "double_buffer")
        return "1-bit DB" if buffered else "1-bit"
    if "dense" in name or name == "sgd":
        return "dense"
    raise ValueError(f"{run.folder}: method: expected dense, 1-bit or Hessian-free, got {said!r}")


def minibatch_of(run: Run) -> int:
    """N: samples a step over the run; the recipe's where that is the same at every step.

    Raises:
        ValueError: the run tells neither, or a selection changed the size on the way.
    """
    if any(event.get("minibatch") != event.get("before") for event in run.selections):
        raise ValueError(
            f"{run.folder}: expected one minibatch size all along, but a selection changed it"
        )
    recipe = run.start.get("recipe")
    told = number(recipe, "minibatch") if isinstance(recipe, dict) else None
    if told:
        return int(told)
    last = (run.epochs or run.steps)[-1] if run.epochs or run.steps else {}
    steps, samples = number(last, "step"), number(last, "samples")
    if not steps or not samples:
        raise ValueError(
            f"{run.folder}: expected the recipe's minibatch or counted steps, got none"
        )
    return max(1, round(samples / steps))


def course(run: Run, metric: str) -> list[Progress]:
    """A run's epoch events as the planner takes them; those that lack a number are left out."""
    points = []
    for event in run.epochs:
        values = [number(event, name) for name in ("step", "samples", f"{metric}_error")]
        told = [value for value in values if value is not None]
        if len(told) == len(values):
            points.append(Progress(*told))
    return points


def seconds_per_step(run: Run) -> list[float]:
    """Measured: one figure for each stretch between step events after the cold start, ascending."""
    steady = [event for event in run.steps if event.get("phase") in (None, "steady")]
    paces = []
    for before, after in itertools.pairwise(steady):
        values = [number(e, name) for name in ("step", "seconds") for e in (before, after)]
        told = [value for value in values if value is not None]
        if len(told) == 4 and told[1] > told[0]:
            paces.append((told[3] - told[2]) / (told[1] - told[0]))
    return sorted(paces)


def _setting(run: Run, name: str) -> bool:
    """Whether a switch is on anywhere in the recipe."""
    recipe = run.start.get("recipe")
    tables = [recipe, *recipe.values()] if isinstance(recipe, dict) else []
    return any(isinstance(table, dict) and table.get(name) is True for table in tables)
