"""The Hessian of a loss in the model's outputs, times a vector: the middle factor of J' H_L J."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> scalar, a mean over samples, each with the same weight."""

Product = Callable[[Tensor], Tensor]


def output_hessian(loss: Loss, outputs: Tensor, targets: Tensor, *, weight: float = 1.0) -> Product:
    """U -> weight (d^2 loss / d outputs^2) u, for u of the outputs' shape.

    Closed forms for the usual losses, two elementwise operations each; any other loss by
    differentiating it twice with respect to the outputs alone.

    - softmax cross entropy: (p * u - p * sum(p * u)) / B, with p the softmax over the classes;
    - squared error: 2 u / (number of values);
    - logistic: s (1 - s) u / (number of values), with s the sigmoid.

    Args:
        loss: a mean over samples; modules and functions of torch are recognised.
        outputs: [B, ...], values only.
        targets: what the loss takes beside them.
        weight: a factor.
    """
    outputs = outputs.detach()
    if _is_cross_entropy(loss, outputs, targets):
        p = outputs.softmax(dim=1)
        scale = weight * outputs.shape[1] / outputs.numel()

        def cross_entropy(u: Tensor) -> Tensor:
            pu = p * u
            return torch.addcmul(pu, p, pu.sum(dim=1, keepdim=True), value=-1).mul_(scale)

        return cross_entropy
    if loss is F.mse_loss or (type(loss) is nn.MSELoss and loss.reduction == "mean"):
        return lambda u: u * (2 * weight / outputs.numel())
    if _is_logistic(loss):
        s = outputs.sigmoid()
        scales = (s * (1 - s)).mul_(weight / outputs.numel())
        return lambda u: scales * u
    return by_differentiation(weight * loss(outputs.requires_grad_(), targets), outputs)


def by_differentiation(value: Tensor, outputs: Tensor) -> Product:
    """U -> (d^2 value / d outputs^2) u, from a value with its graph."""
    (slope,) = torch.autograd.grad(value, outputs, create_graph=True)
    if slope.grad_fn is None:  # linear in the outputs
        return torch.zeros_like

    def product(u: Tensor) -> Tensor:
        (result,) = torch.autograd.grad(
            slope, outputs, u, retain_graph=True, materialize_grads=True
        )
        return result

    return product


def _is_cross_entropy(loss: Loss, outputs: Tensor, targets: Tensor) -> bool:
    if type(loss) is nn.CrossEntropyLoss:
        if loss.weight is not None or loss.reduction != "mean":
            return False
    elif loss is not F.cross_entropy:
        return False
    if outputs.ndim < 2:
        return False
    if targets.is_floating_point():  # probabilities, which need not add up to 1
        return False
    ignored = loss.ignore_index if isinstance(loss, nn.CrossEntropyLoss) else -100
    return not bool((targets == ignored).any())


def _is_logistic(loss: Loss) -> bool:
    if loss is F.binary_cross_entropy_with_logits:
        return True
    if type(loss) is not nn.BCEWithLogitsLoss or loss.reduction != "mean":
        return False
    return loss.weight is None and loss.pos_weight is None
