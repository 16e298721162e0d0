"""The same loops under torch's SGD and under thinwire's optimisers, on any number of workers."""

import gc
import itertools
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thinwire import OneBitSGD, OwnerOptimizer

Make = Callable[[nn.Module], Any]
Loop = Callable[[Make, int, int], list[nn.Module]]
MANY_BUCKETS = {"code": "float32", "bucket_mb": 0.001}

ONE_BIT: dict[str, Make] = {
    "at once": lambda m: OneBitSGD(m.named_parameters(), lr=0.1, **MANY_BUCKETS),
    "one bucket": lambda m: OneBitSGD(m.named_parameters(), lr=0.1, code="float32"),
    "serial start": lambda m: OneBitSGD(
        m.named_parameters(), lr=0.1, start="serial", start_steps=2, **MANY_BUCKETS
    ),
    "double-buffered": lambda m: landing(
        OneBitSGD(m.named_parameters(), lr=0.1, double_buffer=True, **MANY_BUCKETS)
    ),
    "OwnerOptimizer": lambda m: OwnerOptimizer(
        torch.optim.SGD, m.named_parameters(), lr=0.1, **MANY_BUCKETS
    ),
}


def landing(optimizer: OneBitSGD) -> OneBitSGD:
    """Have every step land at once, so that torch's update without delay is the oracle."""
    optimizer.register_step_post_hook(lambda optimizer, *_: optimizer.flush())
    return optimizer


def perceptron(seed: int, *sizes: int) -> nn.Sequential:
    """Of a generator of its own, since threads share torch's."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
        for parameter in layer.parameters():
            parameter.data.normal_(0, 0.3, generator=generator)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def batch(optimizer: Any, seed: int, rank: int, world: int) -> Tensor:
    """This worker's inputs: an equal share, or in a serial start all of them."""
    inputs = torch.randn(12, 20, generator=torch.Generator().manual_seed(seed))
    alone = getattr(optimizer, "phase", None) == "serial"
    return inputs if alone else inputs.chunk(world)[rank]


def values(models: list[nn.Module]) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for m in models for p in m.parameters()])


def wait_until_gone(alive: weakref.ref[Any]) -> None:
    """A communication thread may be at the end of its last job still."""
    deadline = time.monotonic() + 20
    while alive() is not None:
        assert time.monotonic() < deadline, "something holds it"
        gc.collect()
        time.sleep(0.001)


def gan(make: Make, rank: int, world: int) -> list[nn.Module]:
    """The generator's backward reaches the discriminator, whose step does not follow it."""
    generator, discriminator = perceptron(0, 20, 30, 20), perceptron(1, 20, 30, 20, 1)
    of_g, of_d = make(generator), make(discriminator)
    for step in range(4):
        noise, real = (batch(of_d, seed, rank, world) for seed in (step, 100 + step))
        of_d.zero_grad()
        (discriminator(generator(noise).detach()) - discriminator(real)).mean().backward()
        of_d.step()
        of_g.zero_grad()
        noise = batch(of_g, step, rank, world)
        (-discriminator(generator(noise))).mean().backward()
        of_g.step()
    return [generator, discriminator]


def skipped(make: Make, rank: int, world: int) -> list[nn.Module]:
    """All workers leave out a batch that they have gone through already."""
    model = perceptron(0, 20, 30, 30, 4)
    optimizer = make(model)
    for step in range(5):
        optimizer.zero_grad()
        model(batch(optimizer, step, rank, world)).square().mean().backward()
        if step not in (1, 3):
            optimizer.step()
    return [model]


def looked_at(make: Make, rank: int, world: int) -> list[nn.Module]:
    """A part's gradient is looked at alone, then the whole is trained on."""
    model = perceptron(0, 20, 30, 30, 4)
    optimizer = make(model)
    for step in range(4):
        out = model(batch(optimizer, step, rank, world))
        a, b = out[:, 0].square().mean(), out[:, 1:].square().mean()
        a.backward(retain_graph=True)
        optimizer.zero_grad()
        (a + b).backward()
        optimizer.step()
    return [model]


def accumulated(make: Make, rank: int, world: int) -> list[nn.Module]:
    """What was sent is discarded, what it was the gradient of is kept and added to."""
    model = perceptron(0, 20, 30, 30, 4)
    optimizer = make(model)
    for step in range(4):
        optimizer.zero_grad()
        model(batch(optimizer, step, rank, world)).square().mean().backward()
        if hasattr(optimizer, "discard"):
            optimizer.discard()
        model(batch(optimizer, 50 + step, rank, world)).square().mean().backward()
        optimizer.step()
    return [model]
