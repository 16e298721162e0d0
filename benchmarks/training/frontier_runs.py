"""Measures one run of the frontier, on every worker.

Bytes are what the ledger has of gradients, updates and cold start, the mean over workers; the first
copy of the parameters is left out. What torch's own DistributedDataParallel sends is computed: a
ring all-reduce, 2 M (K-1)/K values a step.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import thinwire
from benchmarks.timing import mean_over_workers
from benchmarks.training.char_lm import (
    BATCH,
    CONTEXT,
    Transformer,
    held_out_losses,
    load_text,
    loss_of,
)
from benchmarks.training.onebit_adam import OneBitAdam
from thinwire.data import MinibatchSampler, load_mnist, shard
from thinwire.exchange import Ledger, shared_wire
from thinwire.models import build_model
from thinwire.train.evaluate import evaluate
from thinwire.train.tasks import Classification

PAYLOAD = ("cold start", "gradients", "updates")  # stages of the ledger


def wrap(model: nn.Module, run: dict[str, Any]) -> tuple[nn.Module, Any, Ledger | None]:
    """Return the module to call, its optimiser, and the ledger if thinwire carries gradients."""
    betas, lr, start = (run["beta1"], 0.999), run["lr"], round(run["start"] * run["steps"])
    adamw = {"lr": lr, "betas": betas, "weight_decay": 0.0}
    code = run["code"] if isinstance(run["code"], str) else tuple(run["code"])
    if run["how"] == "1-bit Adam":
        adam = OneBitAdam(model, lr, betas, start, run["code"])
        return model, adam, adam.ledger
    if run["how"] == "owner":
        owner = thinwire.OwnerOptimizer(
            torch.optim.AdamW,
            model.named_parameters(),
            start="float32",
            start_steps=start,
            code=code,
            **adamw,
        )
        return model, owner, owner.ledger
    if run["how"] == "local":
        inner = torch.optim.AdamW(model.parameters(), **adamw)
        options = {"every": run["every"], "delay": run["delay"], "start_steps": start}
        local = thinwire.LocalSteps(inner, model.named_parameters(), code=code, **options)
        return model, local, local.ledger
    ddp, ledger = DistributedDataParallel(model), None
    if run["how"] == "fp16":
        ddp.register_comm_hook(None, fp16_compress_hook)
    elif run["how"] == "hook":
        state = thinwire.OneBitState(start="float32", start_steps=start, code=code)
        ddp.register_comm_hook(state, thinwire.onebit_hook)
        ledger = state.ledger
    return ddp, torch.optim.AdamW(ddp.parameters(), **adamw), ledger


def measure_lm(run: dict[str, Any]) -> dict[str, Any]:
    """Train the transformer on this worker's share; ``run`` has the fields of ``frontier.Lm``."""
    rank, world, steps, seed = dist.get_rank(), dist.get_world_size(), run["steps"], run["seed"]
    train, held_out = load_text()
    torch.manual_seed(seed)
    model = Transformer()
    net, optimizer, ledger = wrap(model, run)
    steps_of = getattr(optimizer, "inner", optimizer)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(steps_of, steps)
    for step in range(steps):
        generator = torch.Generator().manual_seed((seed * steps + step) * world + rank)
        starts = torch.randint(len(train) - CONTEXT, (BATCH // world,), generator=generator)
        optimizer.zero_grad()
        loss_of(net, train, starts).backward()
        optimizer.step()
        schedule.step()
    if run["how"] == "local":
        optimizer.end_round()
    loss = held_out_losses(model, held_out).mean()
    values = sum(p.numel() for p in model.parameters())
    width = 2 if run["how"] == "fp16" else 4
    ring = 2 * width * values * (world - 1) / world * steps
    sent = ring if ledger is None else ledger.total(*PAYLOAD).bytes
    return {"loss": mean_over_workers(loss.item()), "bytes": mean_over_workers(sent)}


def sgd(model: nn.Module, run: dict[str, Any], minibatch: int, samples: int) -> Any:
    """Return the perceptron's optimiser."""
    options: dict[str, Any] = {"lr": run["lr"], "momentum": run["momentum"]}
    if run["recipe"]:
        options = {"lr": 0.003, "adagrad": "aggregate"}
        options["momentum"] = thinwire.momentum_from_time_constant(1250.0, minibatch)
        options |= {} if run["code"] == "float32" else {"start": "serial", "start_samples": samples}
    options |= {"code": run["code"], "error_feedback": run["error_feedback"]}
    return thinwire.OneBitSGD(model.named_parameters(), batch_size=minibatch, **options)


def measure_mnist(run: dict[str, Any]) -> dict[str, Any]:
    """Train the perceptron; ``run`` has the fields of ``frontier.Mnist``.

    The loop is that of thinwire.train without its log.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    data = load_mnist()
    model = build_model(784, (512, 512, 512), 10, "relu", run["seed"])
    minibatch = 512 if run["recipe"] else run["minibatch"]
    optimizer = sgd(model, run, minibatch, len(data.train))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.85 if run["recipe"] else 1.0)
    sampler = MinibatchSampler(len(data.train), minibatch, run["seed"])
    for epoch in range(run["epochs"]):
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
    wire = shared_wire(None, Ledger())
    scores = evaluate(model, data.test, wire, F.cross_entropy, Classification(10))
    sent = optimizer.ledger.total(*PAYLOAD).bytes
    optimizer.close()
    return {
        "loss": scores["loss"],
        "test error %": 100 * scores["error"],
        "bytes": mean_over_workers(sent),
    }
