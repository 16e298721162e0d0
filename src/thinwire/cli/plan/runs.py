"""Run folders -> measured convergence, by method (``--fit``)."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from thinwire.plan.convergence import Progress, Reached, reached
from thinwire.report import Run, load_runs
from thinwire.report.run import number

HESSIAN_FREE = "Hessian-free"


@dataclass(frozen=True)
class Fitted:
    """What runs say of each method.

    Attributes:
        reached: by method ("dense", "1-bit", "1-bit DB", "Hessian-free").
        failed: labels of runs that never reached the target, by method.
        train_samples: of the runs' data set.
    """

    reached: dict[str, list[Reached]] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    train_samples: int = 0


def load_fitted(folders: Iterable[Path], target: float, metric: str) -> Fitted:
    """Read runs.

    Args:
        folders: run folders.
        target: error as a fraction.
        metric: "test" or "train".

    Raises:
        OSError, ValueError: a run cannot be read or lacks what is needed.
    """
    fitted = Fitted()
    train_samples = fitted.train_samples
    for run in load_runs(folders):
        method = method_of(run)
        found = reached(course(run, metric), target, minibatch_of(run))
        if found is None:
            fitted.failed.setdefault(method, []).append(run.label)
        else:
            fitted.reached.setdefault(method, []).append(found)
        train_samples = int(number(run.start, "train_samples") or train_samples)
    if not fitted.reached:
        raise ValueError(f"--fit: no run reached {100 * target:g} % {metric} error; raise --target")
    return Fitted(fitted.reached, fitted.failed, train_samples)


def method_of(run: Run) -> str:
    """The planner's name for what a run did.

    Raises:
        ValueError: the planner does not know it.
    """
    said = str(run.result.get("method") or run.start.get("method") or "")
    name = said.lower()
    if "hessian" in name or name == "hf":
        return HESSIAN_FREE
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
        fields = ("step", "samples", "communications", f"{metric}_error")
        values = [number(event, name) for name in fields]
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
