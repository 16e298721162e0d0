"""Bytes against loss: what each code and number of bits costs and gives.

    python -m benchmarks.frontier [--only NAME ...] [--steps 600] [--epochs 5] [--seed 0]

Two tasks. Names that begin with "lm": a character-level transformer (254 528 parameters, AdamW) on
the source of Python's standard library, 4 workers, loss on 32 768 held-out characters in nats.
Names that begin with "mnist": a 784-512-512-512-10 perceptron under OneBitSGD, 2 workers, test
error. All processes talk over loopback gloo; within a task all runs see the same data in the same
order.

Results go to benchmarks/results/frontier.json after each run; a run that is there with the same
settings is not repeated. ``benchmarks/figures.py`` draws them. Bytes are what the ledger has of
gradients, updates and cold start, the mean over workers; the first copy of the parameters is left
out. What torch's own DistributedDataParallel sends is computed: a ring all-reduce, 2 M (K-1)/K
values a step.
"""

import argparse
import datetime
import gc
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import thinwire
from benchmarks.char_lm import BATCH, CONTEXT, HELD_OUT, Transformer, load_text, loss_of
from benchmarks.onebit_adam import OneBitAdam
from thinwire.data import MinibatchSampler, load_mnist, shard
from thinwire.exchange import Ledger, Wire
from thinwire.models import build_model
from thinwire.train.evaluate import evaluate
from thinwire.train.tasks import Classification

RESULTS = Path(__file__).parent / "results" / "frontier.json"
PAYLOAD = ("cold start", "gradients", "updates")  # stages of the ledger


@dataclass(frozen=True)
class Lm:
    """A run of the transformer.

    Attributes:
        how: "ddp", "fp16" (torch's hook), "hook", "owner" (OwnerOptimizer) or "1-bit Adam".
        start: fraction of the steps that travel in float32 first.
    """

    how: str
    code: str = "sign"
    bits: tuple[int, int] = (1, 1)
    beta1: float = 0.5
    start: float = 0.1
    lr: float = 0.003
    workers = 4


@dataclass(frozen=True)
class Mnist:
    """A run of the perceptron; ``recipe`` is thinwire's mnist-onebit in place of plain momentum."""

    code: str
    recipe: bool = False
    lr: float = 0.2
    momentum: float = 0.66
    minibatch: int = 1024
    error_feedback: bool = True
    workers = 2


RUNS: dict[str, Lm | Mnist] = {
    "lm float32": Lm("ddp"),
    "lm sign": Lm("hook"),
    "lm 1-bit Adam": Lm("1-bit Adam", start=0.2),
    "lm sign, start 20 %": Lm("hook", start=0.2),
    "lm float32, beta1 0.9": Lm("ddp", beta1=0.9),
    "lm sign, beta1 0.9": Lm("hook", beta1=0.9),
    "lm 1-bit Adam, beta1 0.9": Lm("1-bit Adam", beta1=0.9, start=0.2),
    "lm sign, start 20 %, beta1 0.9": Lm("hook", beta1=0.9, start=0.2),
    "lm rotated": Lm("hook", code="rotated"),
    "lm bits 1/4": Lm("hook", bits=(1, 4)),
    "lm bits 4/4": Lm("hook", bits=(4, 4)),
    "lm bits 4/4, beta1 0.9": Lm("hook", bits=(4, 4), beta1=0.9),
    "lm owner AdamW": Lm("owner"),
    "lm fp16": Lm("fp16"),
    "lm 1-bit Adam, start 10 %": Lm("1-bit Adam"),
    "lm frozen variance, float32": Lm("1-bit Adam", code="float32", start=0.2),
    "lm float32, lr 0.006": Lm("ddp", lr=0.006),
    "lm sign, start 20 %, lr 0.006": Lm("hook", start=0.2, lr=0.006),
    "lm 1-bit Adam, lr 0.006": Lm("1-bit Adam", start=0.2, lr=0.006),
    "lm frozen variance, float32, lr 0.006": Lm("1-bit Adam", code="float32", start=0.2, lr=0.006),
    "lm frozen variance, float32, beta1 0.9": Lm(
        "1-bit Adam", code="float32", beta1=0.9, start=0.2
    ),
    "lm bits 4/4, lr 0.006": Lm("hook", bits=(4, 4), lr=0.006),
    "lm float32, lr 0.012": Lm("ddp", lr=0.012),
    "lm bits 4/4, lr 0.012": Lm("hook", bits=(4, 4), lr=0.012),
    "lm sign, start 20 %, lr 0.012": Lm("hook", start=0.2, lr=0.012),
    "lm 1-bit Adam, lr 0.012": Lm("1-bit Adam", start=0.2, lr=0.012),
    "mnist m 0.9, float32": Mnist("float32", momentum=0.9, lr=0.06),
    "mnist m 0.9, sign": Mnist("sign", momentum=0.9, lr=0.06),
    "mnist m 0.9, rotated": Mnist("rotated", momentum=0.9, lr=0.06),
    "mnist no feedback, sign": Mnist("sign", error_feedback=False),
    "mnist no feedback, rotated": Mnist("rotated", error_feedback=False),
    "mnist m 0.66, float32": Mnist("float32"),
    "mnist m 0.66, sign": Mnist("sign"),
    "mnist recipe, float32": Mnist("float32", recipe=True),
    "mnist recipe, sign": Mnist("sign", recipe=True),
    "mnist recipe, rotated": Mnist("rotated", recipe=True),
    "mnist recipe, 4-bit": Mnist("4-bit", recipe=True),
}


def wrap(model: nn.Module, run: Lm, steps: int) -> tuple[nn.Module, Any, Ledger | None]:
    """The module to call, its optimiser, and the ledger if thinwire carries the gradients."""
    betas, lr, start = (run.beta1, 0.999), run.lr, round(run.start * steps)
    adamw = {"lr": lr, "betas": betas, "weight_decay": 0.0}
    if run.how == "1-bit Adam":
        adam = OneBitAdam(model, lr, betas, start, run.code)
        return model, adam, adam.ledger
    if run.how == "owner":
        owner = thinwire.OwnerOptimizer(
            torch.optim.AdamW,
            model.named_parameters(),
            cold_start=start * dist.get_world_size(),  # samples; one for each worker and step
            cold_start_mode="dense",
            bits=run.bits,
            **adamw,
        )
        return model, owner, owner.ledger
    ddp, ledger = DistributedDataParallel(model), None
    if run.how == "fp16":
        ddp.register_comm_hook(None, fp16_compress_hook)
    elif run.how == "hook":
        state = thinwire.OneBitState(cold_start=start, code=run.code, bits=run.bits)
        ddp.register_comm_hook(state, thinwire.onebit_hook)
        ledger = state.ledger
    return ddp, torch.optim.AdamW(ddp.parameters(), **adamw), ledger


def train_lm(run: Lm, steps: int, seed: int) -> dict[str, Any]:
    """Train the transformer on this worker's share."""
    rank, world = dist.get_rank(), dist.get_world_size()
    train, held_out = load_text()
    torch.manual_seed(seed)
    model = Transformer()
    net, optimizer, ledger = wrap(model, run, steps)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        generator = torch.Generator().manual_seed((seed * steps + step) * world + rank)
        starts = torch.randint(len(train) - CONTEXT, (BATCH // world,), generator=generator)
        optimizer.zero_grad()
        loss_of(net, train, starts).backward()
        optimizer.step()
        schedule.step()
    windows = torch.arange(0, HELD_OUT * CONTEXT, CONTEXT)[rank::world]
    with torch.no_grad():
        loss = torch.stack([loss_of(model, held_out, w) for w in windows.chunk(4)]).mean()
    dist.all_reduce(loss)
    values = sum(p.numel() for p in model.parameters())
    width = 2 if run.how == "fp16" else 4
    ring = 2 * width * values * (world - 1) / world * steps
    sent = ring if ledger is None else ledger.total(*PAYLOAD).bytes
    return {"loss": loss.item() / world, "bytes": mean_over_workers(sent), "parameters": values}


def train_mnist(run: Mnist, epochs: int, seed: int) -> dict[str, Any]:
    """Train the perceptron on this worker's share; the loop of thinwire.train without its log."""
    rank, world = dist.get_rank(), dist.get_world_size()
    data = load_mnist()
    model = build_model(784, (512, 512, 512), 10, "relu", seed)
    minibatch = 512 if run.recipe else run.minibatch
    options: dict[str, Any] = {"lr": run.lr, "momentum": run.momentum}
    if run.recipe:
        options = {"lr": 0.003, "adagrad": "aggregate"}
        options["momentum"] = thinwire.momentum_from_time_constant(1250.0, minibatch)
        options["cold_start"] = 0 if run.code == "float32" else len(data.train)
    optimizer = thinwire.OneBitSGD(
        model.named_parameters(),
        batch_size=minibatch,
        code=run.code,
        error_feedback=run.error_feedback,
        **options,
    )
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.85 if run.recipe else 1.0)
    sampler = MinibatchSampler(len(data.train), minibatch, seed)
    for epoch in range(epochs):
        while sampler.epoch == epoch:
            batch = sampler.next_minibatch()
            serial = optimizer.phase == "serial"
            share = shard(batch, rank, world) if not serial else batch[: len(batch) * (rank == 0)]
            optimizer.zero_grad()
            optimizer.samples = len(share)
            if len(share):
                outputs = model(data.train.inputs[share])
                F.cross_entropy(outputs, data.train.targets[share]).backward()
            optimizer.step()
        schedule.step()
    wire = Wire(None, Ledger())
    scores = evaluate(model, data.test, wire, F.cross_entropy, Classification(10))
    sent = optimizer.ledger.total(*PAYLOAD).bytes
    optimizer.close()
    values = sum(p.numel() for p in model.parameters())
    return {
        "loss": scores["loss"],
        "test error %": 100 * scores["error"],
        "bytes": mean_over_workers(sent),
        "parameters": values,
    }


def mean_over_workers(number: float) -> float:
    """The same on every worker."""
    total = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(total)
    return total.item() / dist.get_world_size()


def settings(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a result depends on, as it is recorded."""
    run = RUNS[name]
    length = {"steps": arguments.steps} if isinstance(run, Lm) else {"epochs": arguments.epochs}
    plain = {**asdict(run), "workers": run.workers, **length, "seed": arguments.seed}
    return json.loads(json.dumps(plain))


def key(name: str, seed: int) -> str:
    """Under which a result is recorded."""
    return name if seed == 0 else f"{name}, seed {seed}"


def read_results() -> dict[str, Any]:
    """What earlier runs have recorded."""
    if RESULTS.exists():
        return json.loads(RESULTS.read_text(encoding="utf-8"))
    return {"runs": {}}


def record(name: str, result: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Enter one result, with what is needed to judge and repeat it."""
    results = read_results()
    results["machine"] = {
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "thinwire": thinwire.__version__,
    }
    length = "steps" if isinstance(RUNS[name], Lm) else "epochs"
    command = f"python -m benchmarks.frontier --only {name!r} --{length} "
    command += f"{getattr(arguments, length)} --seed {arguments.seed}"
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    results["runs"][key(name, arguments.seed)] = {
        "settings": settings(name, arguments),
        **result,
        "date": date,
        "command": command,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def be_worker(arguments: argparse.Namespace) -> None:
    """One worker process: the named runs, one after another."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in arguments.only:
        run = RUNS[name]
        if isinstance(run, Lm):
            result = train_lm(run, arguments.steps, arguments.seed)
        else:
            result = train_mnist(run, arguments.epochs, arguments.seed)
        if dist.get_rank() == 0:
            record(name, result, arguments)
            print(f"{name}: {result}", flush=True)
    gc.collect()  # models of DDP go before their process group does
    dist.destroy_process_group()


def main() -> None:
    """Start the workers of all runs that are still to be made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=600, help="of the transformer")
    parser.add_argument("--epochs", type=int, default=5, help="of the perceptron")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if "LOCAL_RANK" in os.environ:
        be_worker(arguments)
        return
    done = {name: run["settings"] for name, run in read_results()["runs"].items()}
    todo = [
        name
        for name in arguments.only
        if done.get(key(name, arguments.seed)) != settings(name, arguments)
    ]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    lengths = ["--steps", arguments.steps, "--epochs", arguments.epochs, "--seed", arguments.seed]
    for workers in (4, 2):
        names = [name for name in todo if RUNS[name].workers == workers]
        if names:
            command = [*torchrun, workers, "-m", "benchmarks.frontier", *lengths, "--only", *names]
            environment = {"OMP_NUM_THREADS": "1", **os.environ}
            subprocess.run([str(word) for word in command], check=True, env=environment)


if __name__ == "__main__":
    main()
