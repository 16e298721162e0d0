"""The network of ``problems`` for workers that are threads of one process."""

import copy

import torch
from torch import Tensor, nn

from tests.optim import problems

NETWORKS = [problems.network(seed) for seed in range(2)]  # made once: threads share torch's seed


def network(seed: int = 0) -> nn.Sequential:
    return copy.deepcopy(NETWORKS[seed])


def nan(gradient: Tensor) -> Tensor:
    """A hook that spoils a gradient."""
    return torch.full_like(gradient, torch.nan)
