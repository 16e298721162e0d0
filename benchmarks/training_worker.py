"""One worker of the training benchmark; started by ``benchmarks.training`` under torchrun.

It trains one contender on one task and writes, for every step, how long it took and what the
interface sent, and every so often the score. Scores are not part of any time.
"""

import argparse
import gc
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.lab import own_counters
from benchmarks.training_contenders import CONTENDERS, START, Rates, Trainer
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


def train(task: Task, trainer: Trainer, model: Any, steps: int, device: str) -> dict[str, Any]:
    """Up to so many steps, or until the target is reached.

    Returns:
        "steps": one entry each; "scores": [number of steps, score] pairs; "reached": the number of
        steps after which the target was met for the first time, or None.
    """
    next_minibatch = task.minibatches()
    taken: list[dict[str, Any]] = []
    scores: list[list[float]] = []
    while len(taken) < steps:
        taken.append(timed_step(trainer, next_minibatch(), device))
        if len(taken) % task.eval_every == 0:
            scores.append([len(taken), task.score(model)])
            if task.reached(scores[-1][1]):
                return {"steps": taken, "scores": scores, "reached": len(taken)}
            if not math.isfinite(scores[-1][1]):
                break
    return {"steps": taken, "scores": scores, "reached": None}


def main() -> None:
    """Train, and let worker 0 write what happened."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--contender", choices=CONTENDERS, required=True)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--momentum", type=float, required=True)
    parser.add_argument("--exact", type=int, default=START)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="eth0")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    task = TASKS[arguments.task](arguments.seed)
    model = task.model()
    rates = Rates(arguments.lr, arguments.momentum)
    trainer = CONTENDERS[arguments.contender](model, task, rates, arguments.exact)
    dist.barrier()
    result = train(task, trainer, model, arguments.steps or task.most_steps, arguments.device)
    if dist.get_rank() == 0:
        arguments.out.write_text(json.dumps(result), encoding="utf-8")
    trainer.close()
    del trainer, model
    gc.collect()  # models of DDP go before their process group does
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
