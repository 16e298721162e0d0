"""The empirical Fisher matrix, mean_s g_s g_s', in two forms that fit in memory.

With g_s the gradient of sample s's loss:

    diagonal             D = mean_s g_s^2
    Kronecker-factored   F = A (x) G for each linear layer, A = mean_s h_s h_s', G = mean_s d_s d_s'

where g_s = d_s h_s' for a linear layer with input h_s (1 appended for the bias) and gradient d_s
in its output (Martens and Grosse 2015, with the true labels). Both are sums over samples, so a
worker's summand rides along when gradients are reduced; both serve as preconditioners
(``thinwire.solve``).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call, grad, vmap

from thinwire.curvature.flat import FlatModel, twice_differentiable, whole
from thinwire.curvature.output_hessian import Loss
from thinwire.solve import LinearLayer

SAMPLES_AT_ONCE = 64  # per-sample gradients held at the same time

Signals = list[tuple[Tensor, Tensor]]
"""Of each linear layer: inputs [n, in] and gradients of the samples' losses in its outputs."""


def squared_gradients(
    model: FlatModel, loss: Loss, theta: Tensor, inputs: Tensor, targets: Tensor
) -> Tensor:
    """sum_s g_s^2 over a batch, [P].

    One matrix product more than a gradient for linear layers, (d^2)' (h^2); sample by sample
    through torch.func, which costs more, if there are parameters of other modules.

    Args:
        model: whose forward treats samples independently.
        loss: a mean over samples.
        theta: [P].
        inputs: [n, ...].
        targets: [n, ...].

    Raises:
        ValueError: a tensor-parallel model has parameters of other modules.
    """
    layers = linear_layers(model)
    signals = layers and _signals(model, layers, loss, theta, inputs, targets)
    if not layers or not signals:
        return _sample_by_sample(model, loss, theta, inputs, targets)
    squares: dict[Tensor, Tensor] = {}
    for layer, (h, d) in zip(layers, signals, strict=True):
        squares[layer.weight] = d.square().T @ h.square()
        if layer.bias is not None:
            squares[layer.bias] = d.square().sum(0)
    return model.flatten([squares[p] for p in model.parameters])


def kronecker_factors(
    model: FlatModel, loss: Loss, theta: Tensor, inputs: Tensor, targets: Tensor
) -> Tensor:
    """sum_s h_s h_s' and sum_s d_s d_s' of each layer, end to end in one vector.

    Arguments are ``squared_gradients``'s; ``kronecker_layers`` tells where each factor is.

    Raises:
        ValueError: a parameter is not a linear layer's, or a layer's inputs are not [n, in].
    """
    layers = linear_layers(model)
    signals = layers and _signals(model, layers, loss, theta, inputs, targets)
    if not layers or not signals:
        raise ValueError(
            "preconditioner: Kronecker factors need a model of linear layers, each called once on "
            'inputs [n, in]; use "diagonal"'
        )
    factors = []
    for layer, (h, d) in zip(layers, signals, strict=True):
        if layer.bias is not None:
            h = torch.cat([h, h.new_ones(len(h), 1)], dim=1)
        factors += [h.T @ h, d.T @ d]
    return model.flatten(factors)


def kronecker_layers(model: FlatModel) -> list[LinearLayer] | None:
    """Where each layer's weight and bias are in theta; None if Kronecker factors do not apply."""
    layers = linear_layers(model)
    if layers is None:
        return None
    starts: dict[Tensor, int] = {}
    for parameter in model.parameters:
        starts[parameter] = sum(model.sizes[: len(starts)])
    return [
        LinearLayer(
            outputs=layer.out_features,
            inputs=layer.in_features,
            weight=starts[layer.weight],
            bias=None if layer.bias is None else starts[layer.bias],
        )
        for layer in layers
    ]


def fisher_size(model: FlatModel, kind: str) -> int:
    """Values in the diagonal, or in the Kronecker factors."""
    if kind == "diagonal":
        return sum(model.sizes)
    return sum(layer.width**2 + layer.outputs**2 for layer in kronecker_layers(model) or ())


def linear_layers(model: FlatModel) -> list[nn.Linear] | None:
    """The linear layers, if theta is exactly all of their parameters, none shared."""
    wanted, held = set(model.parameters), list[Tensor]()
    layers = []
    for module in model.model.modules():
        own = list(module.parameters(recurse=False))
        if not wanted.intersection(own):
            continue
        if type(module) is not nn.Linear or not isinstance(module.weight, nn.Parameter):
            return None
        layers.append(module)
        held += own
    return layers if set(held) == wanted and len(held) == len(wanted) else None


def _signals(
    model: FlatModel,
    layers: list[nn.Linear],
    loss: Loss,
    theta: Tensor,
    inputs: Tensor,
    targets: Tensor,
) -> Signals | None:
    """Inputs and output gradients of the layers; None if one is called otherwise than once."""
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    calls: list[Tensor] = []

    def look(layer: nn.Module, args: Any, output: Tensor) -> None:
        seen[layer] = args[0].detach(), output
        calls.append(args[0])

    # Before the hooks of tensor parallelism, so that both are still known to be split.
    hooks = [layer.register_forward_hook(look, prepend=True) for layer in layers]
    try:
        with torch.enable_grad():
            outputs = model.outputs(model.leaves(theta), inputs)
            summed = len(targets) * loss(outputs, targets)
    finally:
        for hook in hooks:
            hook.remove()
    if not len(calls) == len(seen) == len(layers) or any(h.ndim != 2 for h in calls):
        return None
    inner = torch.autograd.grad(summed, [seen[layer][1] for layer in layers])
    return [(whole(seen[layer][0]), whole(d)) for layer, d in zip(layers, inner, strict=True)]


def _sample_by_sample(
    model: FlatModel, loss: Loss, theta: Tensor, inputs: Tensor, targets: Tensor
) -> Tensor:
    """Any module, SAMPLES_AT_ONCE gradients at a time."""
    if any(isinstance(p, DTensor) for p in model.parameters):
        raise ValueError(
            "preconditioner: the diagonal of a tensor-parallel model is known for linear layers "
            'only, each called once on inputs [n, in]; use "none"'
        )

    def sample_loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        values = dict(zip(model.names, model.pieces(theta), strict=True))
        return loss(functional_call(model.model, values, (x[None],)), y[None])

    gradients = vmap(grad(sample_loss), in_dims=(None, 0, 0))
    total = torch.zeros_like(theta)
    with twice_differentiable():
        for x, y in zip(inputs.split(SAMPLES_AT_ONCE), targets.split(SAMPLES_AT_ONCE), strict=True):
            total += gradients(theta.detach(), x, y).square().sum(0)
    return total
