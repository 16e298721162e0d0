"""Multi-layer perceptrons, and growing them layer by layer."""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

Activation = Literal["relu", "sigmoid"]
Initialisation = Literal["glorot-he", "torch"]


def build_model(
    inputs: int,
    hidden: Sequence[int],
    classes: int,
    activation: Activation,
    seed: int,
    initialisation: Initialisation = "glorot-he",
) -> nn.Sequential:
    """A multi-layer perceptron that returns logits.

    Args:
        inputs: features of a sample.
        hidden: width of each hidden layer.
        classes: outputs: classes, or numbers to be predicted.
        activation: of the hidden layers.
        seed: of the weights; the global random state is neither used nor changed.
        initialisation: "glorot-he": weights are drawn He-uniform for ReLU and Glorot-uniform (with
            the sigmoid's gain of 4) for sigmoid layers, biases are 0; the output layer is
            Glorot-uniform. "torch": weights and biases are uniform in 1 / sqrt(fan in), as
            torch.nn.Linear's own.

    Returns:
        A module from [N, inputs] to [N, classes].
    """
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    widths = [inputs, *hidden, classes]
    for depth, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        last = depth == len(hidden)
        if initialisation == "torch":
            _draw_as_torch(linear, generator)
        else:
            _draw_glorot_he(linear, None if last else activation, generator)
        layers.append(linear)
        if not last:
            layers.append(nn.ReLU() if activation == "relu" else nn.Sigmoid())
    return nn.Sequential(*layers)


@torch.no_grad()
def grow(trained: nn.Module, fresh: nn.Module) -> None:
    """Give a deeper perceptron the hidden layers of a trained one; its output layer is dropped.

    One step of discriminative pre-training (Seide, Li, Chen, Yu, ASRU 2011; S section 2).

    Args:
        trained: from ``build_model``.
        fresh: from ``build_model``, with the same widths before the new layers; changed in place.

    Raises:
        ValueError: ``fresh`` is not deeper, or its layers have other widths.
    """
    layers, deeper = list(trained.children()), list(fresh.children())
    if len(deeper) <= len(layers):
        raise ValueError(f"fresh: expected more than {len(layers)} modules, got {len(deeper)}")
    for number, (old, new) in enumerate(zip(layers[:-1], deeper, strict=False)):
        if isinstance(old, nn.Linear) and repr(old) != repr(new):
            raise ValueError(f"fresh: expected {old} as module {number}, got {new}")
        new.load_state_dict(old.state_dict())


def _draw_glorot_he(
    linear: nn.Linear, activation: Activation | None, generator: torch.Generator
) -> None:
    if activation == "relu":
        nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu", generator=generator)
    else:
        gain = 1.0 if activation is None else 4.0
        nn.init.xavier_uniform_(linear.weight, gain=gain, generator=generator)
    nn.init.zeros_(linear.bias)


def _draw_as_torch(linear: nn.Linear, generator: torch.Generator) -> None:
    bound = linear.in_features**-0.5
    nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
    nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
