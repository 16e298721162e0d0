"""Measures one run of an ordinary script, on every worker; ``ordinary`` has the cells.

Nothing here is chosen for thinwire: networks, rates, momentum, clipping and schedules are what a
script for DistributedDataParallel has.
"""

import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import thinwire
from benchmarks.timing import mean_over_workers, over_workers
from benchmarks.training.char_lm import load_text
from thinwire.data import Dataset
from thinwire.data.idx_folder import load_idx_folder

FASHION = "/usr/share/datasets/fashion-mnist"  # where Debian's dataset-fashion-mnist puts it
IMAGES, BATCH, CONTEXT, WIDTH, LAYERS = 10_000, 128, 64, 144, 4
PAYLOAD = ("gradients", "updates")  # stages of the ledger


class Residual(nn.Module):
    """Two 3 x 3 convolutions with batch norm beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        return F.relu(self.body(inputs) + self.shortcut(inputs))


def convolutional() -> nn.Module:
    """Return a residual network of 0.3 million parameters for 28 x 28 images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Residual(16, 32, 1),
        Residual(32, 64, 2),
        Residual(64, 128, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


class Gpt(nn.Module):
    """A causal transformer over ASCII, of one million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(128, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 128)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT))

    def forward(self, x: Tensor) -> Tensor:
        """[N, CONTEXT] characters -> [N, CONTEXT, 128] logits."""
        hidden = self.token(x) + self.place.weight
        return self.out(self.norm(self.layers(hidden, self.mask, is_causal=True)))


@cache
def fashion() -> Dataset:
    """Fashion-MNIST, from THINWIRE_FASHION or where Debian's package puts it."""
    return load_idx_folder(Path(os.environ.get("THINWIRE_FASHION", FASHION)), "Fashion-MNIST")


def images(pixels: Tensor) -> Tensor:
    """Return [N, 28 x 28] bytes as normalised images [N, 1, 28, 28]."""
    return pixels.view(-1, 1, 28, 28).float().div(255).sub(0.286).div(0.353)


def wrap(model: nn.Module, how: str) -> tuple[DistributedDataParallel, Any]:
    """Return the model under DistributedDataParallel, and what counts its bytes, if thinwire is."""
    if how.startswith("PowerSGD"):
        ddp = DistributedDataParallel(model, bucket_cap_mb=10_000)  # it hangs with several on gloo
        rank = int(how.split()[-1])
        state = PowerSGDState(None, matrix_approximation_rank=rank, start_powerSGD_iter=10)
        ddp.register_comm_hook(state, powerSGD_hook)
        return ddp, None
    ddp = DistributedDataParallel(model)
    if how == "DDP":
        return ddp, None
    return ddp, thinwire.compress(ddp) if how == "thinwire" else thinwire.compress(ddp, code=how)


def train(
    ddp: DistributedDataParallel,
    optimizer: torch.optim.Optimizer,
    steps: int,
    warm_up: int,
    loss_of: Callable[[int], Tensor],
    clip: float | None,
) -> None:
    """Take steps, the rate rising over ``warm_up`` of them and then falling along a cosine."""

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / warm_up) * (1 + math.cos(math.pi * step / steps)) / 2

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(step).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(ddp.parameters(), clip)
        optimizer.step()
        schedule.step()


def measure_convolutional(run: dict[str, Any]) -> dict[str, Any]:
    """Test error of the network after some epochs of a part of the images."""
    rank, world, data = dist.get_rank(), dist.get_world_size(), fashion()
    inputs, tests = images(data.train.inputs[:IMAGES]), images(data.test.inputs)
    torch.manual_seed(run["seed"])
    model = convolutional()
    ddp, state = wrap(model, run["how"])
    options = {"momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
    optimizer = torch.optim.SGD(ddp.parameters(), run["lr"], **options)
    generator = torch.Generator().manual_seed(run["seed"])
    per_epoch = IMAGES // BATCH
    orders = [torch.randperm(IMAGES, generator=generator) for _ in range(run["epochs"])]

    def loss_of(step: int) -> Tensor:
        order, place = orders[step // per_epoch], step % per_epoch
        share = order[place * BATCH : (place + 1) * BATCH][rank::world]
        return F.cross_entropy(ddp(inputs[share]), data.train.targets[share])

    steps = run["epochs"] * per_epoch
    train(ddp, optimizer, steps, 20, loss_of, None)
    model.eval()
    with torch.no_grad():
        share = slice(rank, None, world)
        parts = zip(tests[share].split(500), data.test.targets[share].split(500), strict=True)
        wrong = sum(float((model(x).argmax(1) != y).sum()) for x, y in parts)
    error = 100 * over_workers(wrong) / len(data.test)
    return {"test error %": error, **_sent(model, state, steps)}


def measure_gpt(run: dict[str, Any]) -> dict[str, Any]:
    """Held-out loss of the transformer, in nats per character."""
    rank, world = dist.get_rank(), dist.get_world_size()
    text, held_out = load_text()
    torch.manual_seed(run["seed"])
    model = Gpt()
    ddp, state = wrap(model, run["how"])
    options = {"betas": (0.9, 0.95), "weight_decay": 0.1}
    optimizer = torch.optim.AdamW(ddp.parameters(), run["lr"], **options)

    def windows(source: Tensor, starts: Tensor, net: nn.Module) -> Tensor:
        batch = torch.stack([source[s : s + CONTEXT + 1] for s in starts.tolist()])
        return F.cross_entropy(net(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    def loss_of(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(run["seed"] * run["steps"] + step)
        starts = torch.randint(len(text) - CONTEXT, (32,), generator=generator)
        return windows(text, starts[rank::world], ddp)

    train(ddp, optimizer, run["steps"], 50, loss_of, 1.0)
    with torch.no_grad():
        starts = torch.arange(0, 512 * CONTEXT, CONTEXT)[rank::world].chunk(8)
        loss = sum(windows(held_out, some, model).item() for some in starts) / len(starts)
    return {"loss": mean_over_workers(loss), **_sent(model, state, run["steps"])}


def _sent(model: nn.Module, state: Any, steps: int) -> dict[str, float]:
    """Bytes a worker sent, and how many times fewer than float32's ring all-reduces they are."""
    values, world = sum(p.numel() for p in model.parameters()), dist.get_world_size()
    ring = 8.0 * values * (world - 1) / world * steps
    if state is None:
        return {}
    sent = mean_over_workers(state.ledger.total(*PAYLOAD).bytes)
    return {"bytes": sent, "fewer": ring / sent}
