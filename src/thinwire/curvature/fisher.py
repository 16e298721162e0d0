"""The diagonal of the empirical Fisher matrix: mean squared per-sample gradients.

    D = 1/n sum_s g_s * g_s,   g_s the gradient of sample s's loss.

For a linear layer g_s = delta_s h_s', so D = (delta^2)' (h^2) / n: one matrix product more than the
gradient. Other modules go sample by sample through torch.func, which costs more.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from thinwire.curvature.flat import FlatModel, twice_differentiable
from thinwire.curvature.output_hessian import Loss

SAMPLES_AT_ONCE = 64  # per-sample gradients held at the same time


def squared_gradients(
    model: FlatModel, loss: Loss, theta: Tensor, inputs: Tensor, targets: Tensor
) -> Tensor:
    """sum_s g_s^2 over a batch, [P].

    Args:
        model: whose forward treats samples independently.
        loss: a mean over samples.
        theta: [P].
        inputs: [n, ...].
        targets: [n, ...].
    """
    total = _through_linear_layers(model, loss, theta, inputs, targets)
    return _sample_by_sample(model, loss, theta, inputs, targets) if total is None else total


def _through_linear_layers(
    model: FlatModel, loss: Loss, theta: Tensor, inputs: Tensor, targets: Tensor
) -> Tensor | None:
    """The products above; None unless every parameter is one linear layer's, called once."""
    layers = _linear_layers(model)
    if layers is None:
        return None
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def look(layer: nn.Module, args: Any, output: Tensor) -> None:
        seen.append((layer, args[0].detach(), output))

    hooks = [layer.register_forward_hook(look) for layer in layers]
    try:
        with torch.enable_grad():
            summed = len(targets) * loss(model.outputs(model.leaves(theta), inputs), targets)
    finally:
        for hook in hooks:
            hook.remove()
    if len(seen) != len(layers) or any(h.ndim != 2 for _, h, _ in seen):
        return None
    deltas = torch.autograd.grad(summed, [z for _, _, z in seen])
    squares: dict[Tensor, Tensor] = {}
    for (layer, h, _), delta in zip(seen, deltas, strict=True):
        squared = delta.square_()
        squares[layer.weight] = squared.T @ h.square()
        if layer.bias is not None:
            squares[layer.bias] = squared.sum(0)
    return model.flatten(squares[p] for p in model.parameters)


def _linear_layers(model: FlatModel) -> list[nn.Linear] | None:
    """The linear layers whose parameters are theta; None if theta holds any other, or one twice."""
    wanted = set(model.parameters)
    layers, held = [], []
    for module in model.model.modules():
        own = [p for p in module.parameters(recurse=False) if p in wanted]
        if own and type(module) is not nn.Linear:
            return None
        if isinstance(module, nn.Linear) and own:
            layers.append(module)
            held += own
    return layers if len(held) == len(set(held)) == len(wanted) else None


def _sample_by_sample(
    model: FlatModel, loss: Loss, theta: Tensor, inputs: Tensor, targets: Tensor
) -> Tensor:
    """Any module, SAMPLES_AT_ONCE gradients at a time."""

    def sample_loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        values = dict(zip(model.names, model.pieces(theta), strict=True))
        return loss(functional_call(model.model, values, (x[None],)), y[None])

    gradients = vmap(grad(sample_loss), in_dims=(None, 0, 0))
    total = torch.zeros_like(theta)
    with twice_differentiable():
        for x, y in zip(inputs.split(SAMPLES_AT_ONCE), targets.split(SAMPLES_AT_ONCE), strict=True):
            total += gradients(theta.detach(), x, y).square().sum(0)
    return total
