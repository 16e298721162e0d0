"""The networks whose curvature is timed."""

import itertools

import torch
from torch import Tensor, nn

NETS = {
    "784-400-10": (784, 400, 10),
    "784-400-150-10": (784, 400, 150, 10),
    "360-512-512-512-1973": (360, 512, 512, 512, 1973),
}

Batch = tuple[Tensor, Tensor]


def network(net: str) -> nn.Sequential:
    """Return a sigmoid network."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(NETS[net]):
        layers += [nn.Linear(fan_in, fan_out), nn.Sigmoid()]
    return nn.Sequential(*layers[:-1])


def batch(net: str, samples: int, seed: int = 0) -> Batch:
    """Return random inputs and targets."""
    generator, sizes = torch.Generator().manual_seed(seed), NETS[net]
    inputs = torch.rand(samples, sizes[0], generator=generator)
    return inputs, torch.randint(sizes[-1], (samples,), generator=generator)
