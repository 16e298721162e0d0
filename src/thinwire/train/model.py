"""The networks a recipe can name."""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

Activation = Literal["relu", "sigmoid"]


def build_model(
    inputs: int, hidden: Sequence[int], classes: int, activation: Activation, seed: int
) -> nn.Sequential:
    """A multi-layer perceptron that returns logits.

    Weights are drawn He-uniform for ReLU and Glorot-uniform (with the sigmoid's gain of 4) for
    sigmoid layers, biases are 0; the output layer is Glorot-uniform.

    Args:
        inputs: features of a sample.
        hidden: width of each hidden layer.
        classes: outputs.
        activation: of the hidden layers.
        seed: of the weights; the global random state is neither used nor changed.

    Returns:
        A module from [N, inputs] to [N, classes].
    """
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    widths = [inputs, *hidden, classes]
    for depth, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        last = depth == len(hidden)
        if last:
            nn.init.xavier_uniform_(linear.weight, generator=generator)
        elif activation == "relu":
            nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu", generator=generator)
        else:
            nn.init.xavier_uniform_(linear.weight, gain=4.0, generator=generator)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if not last:
            layers.append(nn.ReLU() if activation == "relu" else nn.Sigmoid())
    return nn.Sequential(*layers)
