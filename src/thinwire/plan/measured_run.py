"""What the planner reads of one recorded run.

Every name of an event's field that the planner depends on stands here, but for the metric, which
is the goal's (`goal`).
"""

import itertools

from thinwire.plan.convergence import CoursePoint
from thinwire.plan.hessian_free_iteration import Job
from thinwire.plan.methods import DENSE, MOST_EVERY, ONE_BIT, Method, local_steps
from thinwire.report import Run
from thinwire.report.run import number

STEADY = (None, "steady")  # phases of step events whose pace is the method's own
COUNTS = ("products", "candidates", "trials", "alpha")  # of a Hessian-free step event


def is_hessian_free(method: str) -> bool:
    """Return whether a method, as a run or ``method_of`` names it, is a Hessian-free one."""
    return "hessian" in method.lower()


def method_of(run: Run) -> str:
    """Return the planner's name for what a run did.

    Returns:
        "dense", "1-bit", "1-bit DB" or, with local steps, such as "1-bit H8"; of a Hessian-free run
        its own name, such as "Hessian-free, CG".

    Raises:
        ValueError: the planner does not know the method.
    """
    said = str(run.result.get("method") or run.start.get("method") or "")
    name = said.lower()
    if is_hessian_free(name):
        return said
    local = local_method_of(run)
    if local is not None:
        return local.name
    if "1-bit" in name or name == "onebit":
        buffered = "double" in name or _is_on(run, "double_buffer")
        return "1-bit DB" if buffered else "1-bit"
    if "dense" in name or name == "sgd":
        return "dense"
    raise ValueError(f"{run.folder}: method: expected dense, 1-bit or Hessian-free, got {said!r}")


def local_method_of(run: Run) -> Method | None:
    """Return the planned method of a run of local steps; None if it is something else."""
    fields, name = _section(run, "local"), str(run.start.get("method") or "").lower()
    every, delay = (int(number(fields, field) or 0) for field in ("every", "delay"))
    base = next((method for method in (ONE_BIT, DENSE) if method.name in name), None)
    sound = 0 <= delay < every <= MOST_EVERY
    return local_steps(base, every, delay) if base is not None and sound else None


def minibatch_of(run: Run) -> int:
    """Return N, the samples of a step, over all workers.

    It is the recipe's where that is the same at every step, and the mean over the run otherwise.

    Raises:
        ValueError: the run tells neither, or a selection changed the size on the way.
    """
    if any(event.get("minibatch") != event.get("before") for event in run.selections):
        raise ValueError(
            f"{run.folder}: expected one minibatch size all along, but a selection changed it"
        )
    told = number(_recipe(run), "minibatch")
    if told:
        return int(told)
    last = (run.epochs or run.steps)[-1] if run.epochs or run.steps else {}
    steps, samples = number(last, "step"), number(last, "samples")
    if not steps or not samples:
        raise ValueError(
            f"{run.folder}: expected the recipe's minibatch or counted steps, got none"
        )
    return max(1, round(samples / steps))


def course_of(run: Run, metric: str) -> list[CoursePoint]:
    """Return a run's evaluations in order; those that lack a number are left out.

    Args:
        run: the run.
        metric: the field of epoch events that holds what is to be reached.
    """
    points = []
    for event in run.epochs:
        values = [number(event, name) for name in ("step", "samples", metric)]
        told = [value for value in values if value is not None]
        if len(told) == len(values):
            points.append(CoursePoint(*told))
    return points


def seconds_per_step(run: Run) -> list[float]:
    """Return the measured seconds of a step, ascending.

    There is one figure for each stretch between two step events after the cold start.
    """
    steady = [event for event in run.steps if event.get("phase") in STEADY]
    paces = []
    for before, after in itertools.pairwise(steady):
        values = [number(e, name) for name in ("step", "seconds") for e in (before, after)]
        told = [value for value in values if value is not None]
        if len(told) == 4 and told[1] > told[0]:
            paces.append((told[3] - told[2]) / (told[1] - told[0]))
    return sorted(paces)


def iteration_of(run: Run) -> Job:
    """Return the average iteration of a Hessian-free run, as its step events and recipe tell it.

    The first gradient is where the run begins; then every line search computes its first trial's,
    which the next iteration begins with unless another trial was taken.

    Raises:
        ValueError: the run does not tell what an iteration did.
    """
    settings, n = _section(run, "hessian_free"), number(run.start, "train_samples")
    batch = number(settings, "curvature_batch")
    told = [[number(event, name) for name in COUNTS] for event in run.steps]
    if n is None or batch is None or not told:
        raise ValueError(
            f"{run.folder}: expected train_samples, hessian_free.curvature_batch and step events"
        )
    rows = [[value for value in row if value is not None] for row in told]
    if any(len(row) < len(COUNTS) for row in rows):
        raise ValueError(f"{run.folder}: expected {', '.join(COUNTS)} in every step event")
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


def newton_settings_of(run: Run) -> dict[str, object]:
    """Return what decides about a Hessian-free run's iterations, but for how many and where."""
    settings = _section(run, "hessian_free")
    return {k: v for k, v in settings.items() if k not in ("iterations", "curvature")}


def _section(run: Run, name: str) -> dict[str, object]:
    """A section of the recipe; empty where it is missing."""
    settings = _recipe(run).get(name)
    return settings if isinstance(settings, dict) else {}


def _recipe(run: Run) -> dict[str, object]:
    recipe = run.start.get("recipe")
    return recipe if isinstance(recipe, dict) else {}


def _is_on(run: Run, name: str) -> bool:
    """Return whether a switch is on anywhere in the recipe."""
    recipe = _recipe(run)
    tables = [recipe, *recipe.values()]
    return any(isinstance(table, dict) and table.get(name) is True for table in tables)
