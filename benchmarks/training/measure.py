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
    """Take one step; return seconds, bytes sent and received, and whether it was of the start."""
    starting = trainer.starting
    before, started = counters(device), time.perf_counter()
    trainer.step(minibatch)
    seconds = time.perf_counter() - started
    passed = counters(device) - before
    return {
        "seconds": seconds,
        "bytes": passed.tx_payload,
        "received": passed.rx_payload,
        "starting": starting,
    }


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
        steps after which the target was met for the first time, or None; "every": of the trainer.
        A score that is not finite ends the run.
    """
    next_minibatch = task.minibatches()
    taken: list[dict[str, Any]] = []
    scores: list[list[float]] = []
    reached = None
    while len(taken) < settings["steps"]:
        taken.append(timed_step(trainer, next_minibatch(), settings["device"]))
        if score_due(settings, task, len(taken)):
            score = task.score(model)
            if not math.isfinite(score):
                break
            scores.append([len(taken), score])
            if reached is None and settings["stage"] != "tune" and task.goal.reached(score):
                reached = len(taken)
                if settings["contender"] in NEWTON or not task.goal.to_the_end:
                    break
    return {"steps": taken, "scores": scores, "reached": reached, "every": trainer.every}


def compact(result: dict[str, Any]) -> dict[str, Any]:
    """Return what ``train`` told in as much room as it deserves: medians of steps, not steps.

    Where what is sent repeats only after several steps, these count as one, a step having its share
    of it.
    """
    phases = {}
    for name, starting in (("start", True), ("steady", False)):
        steps = [step for step in result["steps"] if step["starting"] == starting]
        rounds = _rounds(steps, 1 if starting else result["every"])
        if rounds:
            median, low, high = spread([step["seconds"] for step in rounds])
            phases[name] = {
                "seconds": median,
                "fastest": low,
                "slowest": high,
                "bytes": statistics.median(step["bytes"] for step in rounds),
                "received": statistics.median(step["received"] for step in rounds),
                "steps": len(rounds),
            }
    names = ("seconds", "bytes", "received")
    total = {name: sum(step[name] for step in result["steps"]) for name in names}
    return {
        "phases": phases,
        "total": {"steps": len(result["steps"]), **total},
        "scores": result["scores"],
        "reached": result["reached"],
    }


def _rounds(steps: list[dict[str, Any]], every: int) -> list[dict[str, float]]:
    """Return whole rounds of steps after those that warm up, each as the mean of its steps."""
    warm_up = every if every > 1 else WARM_UP
    whole = [steps[at : at + every] for at in range(0, len(steps) - every + 1, every)]
    rounds = whole[warm_up // every :] or whole
    names = ("seconds", "bytes", "received")
    return [{name: statistics.fmean(s[name] for s in one) for name in names} for one in rounds]


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Train from a network that has learned nothing."""
    task = TASKS[settings["task"]](settings["seed"])
    model = task.model()
    trainer = CONTENDERS[settings["contender"]].make(model, task, settings["point"])
    dist.barrier()
    result = train(task, trainer, model, settings)
    trainer.close()
    return compact(result)
