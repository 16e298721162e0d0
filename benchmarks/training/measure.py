"""Measures one cell of the training benchmark, on every worker.

For every step how long it took and what the interface sent, and every so often the score. Scores
are not part of any time.
"""

import math
import statistics
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from benchmarks.timing import spread
from benchmarks.training.contenders import CONTENDERS, NEWTON, Trainer
from benchmarks.training.tasks import TASKS, Task
from benchmarks.worker import counters

WARM_UP = 2  # steps at the beginning of either phase that are not counted: buckets are built anew


def timed_step(trainer: Trainer, minibatch: torch.Tensor, device: str) -> dict[str, Any]:
    """Take one step; return seconds, bytes sent, and whether it was one of the exact start."""
    exact = trainer.exact
    before, started = counters(device), time.perf_counter()
    trainer.step(minibatch)
    seconds = time.perf_counter() - started
    sent = counters(device) - before
    return {"seconds": seconds, "bytes": sent.tx_payload, "exact": exact}


def score_due(settings: dict[str, Any], task: Task, done: int) -> bool:
    """Return whether the score is taken now: at the end of a run of the grid, else every so often.

    A run that only measures speed has none, unless it is to go to the target.
    """
    if settings["stage"] == "tune":
        return done == settings["steps"]
    if settings["contender"] in NEWTON:
        return True
    goal = task.goal
    return settings["stage"] == "train" and done >= goal.eval_from and done % goal.eval_every == 0


def train(
    task: Task, trainer: Trainer, model: nn.Module, settings: dict[str, Any]
) -> dict[str, Any]:
    """Take up to so many steps, or until the target is reached.

    Returns:
        "steps": one entry each; "scores": [number of steps, score] pairs; "reached": the number of
        steps after which the target was met for the first time, or None. A score that is not
        finite ends the run.
    """
    next_minibatch = task.minibatches()
    taken: list[dict[str, Any]] = []
    scores: list[list[float]] = []
    while len(taken) < settings["steps"]:
        taken.append(timed_step(trainer, next_minibatch(), settings["device"]))
        if score_due(settings, task, len(taken)):
            score = task.score(model)
            if not math.isfinite(score):
                break
            scores.append([len(taken), score])
            if settings["stage"] != "tune" and task.goal.reached(score):
                return {"steps": taken, "scores": scores, "reached": len(taken)}
    return {"steps": taken, "scores": scores, "reached": None}


def compact(result: dict[str, Any]) -> dict[str, Any]:
    """Return what ``train`` told in as much room as it deserves: medians of steps, not steps."""
    phases = {}
    for name, exact in (("start", True), ("steady", False)):
        of_phase = [step for step in result["steps"] if step["exact"] == exact]
        steps = of_phase[WARM_UP:] or of_phase
        if steps:
            median, low, high = spread([step["seconds"] for step in steps])
            phases[name] = {
                "seconds": median,
                "fastest": low,
                "slowest": high,
                "bytes": statistics.median(step["bytes"] for step in steps),
                "steps": len(steps),
            }
    total = {name: sum(step[name] for step in result["steps"]) for name in ("seconds", "bytes")}
    return {
        "phases": phases,
        "total": {"steps": len(result["steps"]), **total},
        "scores": result["scores"],
        "reached": result["reached"],
    }


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Train from a network that has learned nothing."""
    task = TASKS[settings["task"]](settings["seed"])
    model = task.model()
    make = CONTENDERS[settings["contender"]]
    trainer = make(model, task, settings["point"], settings["exact"])
    dist.barrier()
    result = train(task, trainer, model, settings)
    trainer.close()
    return compact(result)
