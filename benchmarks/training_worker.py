"""One worker of the training benchmark; started by ``benchmarks.training`` under torchrun.

It does a list of cells (``training_jobs``) of one contender, one after another, and writes for each
a line: for every step how long it took and what the interface sent, and every so often the score.
Scores are not part of any time.
"""

import argparse
import gc
import json
import math
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.lab import own_counters
from benchmarks.training_contenders import CONTENDERS, NEWTON, Trainer
from benchmarks.training_tasks import TASKS, Task


def payload(device: str) -> int:
    """Bytes this worker's interface has sent; 0 where there is none (no laboratory)."""
    try:
        return own_counters(device).tx_payload
    except ValueError:
        return 0


def timed_step(trainer: Trainer, minibatch: torch.Tensor, device: str) -> dict[str, Any]:
    """One step: seconds, bytes sent, and whether it was one of the exact start."""
    exact = trainer.exact
    before, started = payload(device), time.perf_counter()
    trainer.step(minibatch)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "bytes": payload(device) - before, "exact": exact}


def score_due(job: dict[str, Any], task: Task, done: int) -> bool:
    """Whether the score is taken now: at the end of a run of the grid, every so often otherwise.

    A run that only measures speed has none, unless it is to go to the target.
    """
    if job["stage"] == "tune":
        return done == job["steps"]
    if job["contender"] in NEWTON:
        return True
    goal = task.goal
    return job["stage"] == "train" and done >= goal.eval_from and done % goal.eval_every == 0


def train(task: Task, trainer: Trainer, model: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Up to so many steps, or until the target is reached.

    Returns:
        "steps": one entry each; "scores": [number of steps, score] pairs; "reached": the number of
        steps after which the target was met for the first time, or None. A score that is not
        finite ends the run.
    """
    next_minibatch = task.minibatches()
    taken: list[dict[str, Any]] = []
    scores: list[list[float]] = []
    while len(taken) < job["steps"]:
        taken.append(timed_step(trainer, next_minibatch(), job["device"]))
        if score_due(job, task, len(taken)):
            score = task.score(model)
            if not math.isfinite(score):
                break
            scores.append([len(taken), score])
            if job["stage"] != "tune" and task.goal.reached(score):
                return {"steps": taken, "scores": scores, "reached": len(taken)}
    return {"steps": taken, "scores": scores, "reached": None}


def do(job: dict[str, Any]) -> dict[str, Any]:
    """One cell, from a network that has learned nothing."""
    started = time.monotonic()
    task = TASKS[job["task"]](job["seed"])
    model = task.model()
    trainer = CONTENDERS[job["contender"]](model, task, job["settings"], job["exact"])
    dist.barrier()
    result = train(task, trainer, model, job)
    trainer.close()
    del trainer, model
    gc.collect()  # models of DDP go before the next, and before their process group does
    return {"key": job["key"], "wall": time.monotonic() - started, **result}


def main() -> None:
    """Do the cells, and let worker 0 write what happened."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=Path, required=True, help="JSON: a list of cells")
    parser.add_argument("--device", default="eth0")
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=120))  # for hooks that hang
    for job in json.loads(arguments.jobs.read_text(encoding="utf-8")):
        result = do({**job, "device": arguments.device})
        if dist.get_rank() == 0:
            with arguments.out.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(result) + "\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
