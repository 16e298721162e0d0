"""A user's own network, by the name of the function that makes it."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thinwire.curvature import CURVED
from thinwire.exchange import TRAINED, check_gradient, check_parameters
from thinwire.named_function import find_function

Loss = Callable[[Any, Tensor], Tensor]
"""(outputs, targets) -> scalar, the mean over the samples."""


def from_factory(
    name: str, *, inputs: int | tuple[int, ...], classes: int, seed: int
) -> tuple[nn.Module, Loss]:
    """Call ``function(inputs=..., classes=..., seed=...)``, which returns (module, loss).

    The module is looked for as ``python -m`` does: in the current directory, then on the import
    path. While it is imported and called, torch's global random state is seeded with ``seed``; then
    it is as before.

    Args:
        name: "package.module:function".
        inputs: features of a sample; its shape where it has several axes.
        classes: outputs for each sample: classes, or numbers to be predicted.
        seed: of the weights.

    Returns:
        The module, from [N, inputs] to what the loss takes, and the loss, a mean over samples.

    Raises:
        ValueError: there is no such function, it takes other arguments, or returns something else.
    """
    arguments = {"inputs": inputs, "classes": classes, "seed": seed}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        function = find_function(name)
        try:
            inspect.signature(function).bind(**arguments)
        except TypeError as error:
            raise ValueError(
                f"{name} must take the keywords inputs, classes and seed: {error}"
            ) from None
        made = function(**arguments)
    if not isinstance(made, tuple) or len(made) != 2:
        raise ValueError(f"{name} must return (module, loss), got {_kind(made)}")
    model, loss = made
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} must return an nn.Module first, got {_kind(model)}")
    if not callable(loss):
        raise ValueError(f"{name} must return a loss(outputs, targets) second, got {_kind(loss)}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"{name} returned a module without parameters to train")
    return model, loss


def check_network(
    model: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, *, one_tensor: bool = False
) -> None:
    """Try a network on a few samples, leaving it as it is.

    Args:
        model: from ``from_factory``.
        loss: the same.
        inputs: [n, ...].
        targets: [n, ...].
        one_tensor: the outputs must be a tensor, which Hessian-free optimisation differentiates in.

    Raises:
        TypeError: a parameter is of a dtype that cannot be trained, or its gradient is sparse.
        ValueError: the outputs are none; the loss is not one number, not differentiable or not a
            mean over samples; or training changes buffers, which workers do not exchange.
    """
    check_parameters(model.named_parameters(), dtypes=CURVED if one_tensor else TRAINED)
    with torch.random.fork_rng(devices=[]):
        _check_loss(model, loss, inputs, targets, one_tensor)
        _check_buffers(model, inputs)


def _check_loss(
    model: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, one_tensor: bool
) -> None:
    mode = model.training
    model.eval()
    outputs = model(inputs)
    if one_tensor and not isinstance(outputs, Tensor):
        raise ValueError(f"Hessian-free needs outputs that are one tensor, got {_kind(outputs)}")
    value = loss(outputs, targets)
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        what = f"shape {list(value.shape)}" if isinstance(value, Tensor) else _kind(value)
        raise ValueError(f"the loss must be one number, a tensor of shape [], got {what}")
    if not value.requires_grad:
        raise ValueError("the loss does not depend on the module's parameters")
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(
        value, list(trained.values()), retain_graph=True, allow_unused=True
    )
    for name, gradient in zip(trained, gradients, strict=True):
        check_gradient(name, gradient)
    twice = loss(model(torch.cat([inputs, inputs])), torch.cat([targets, targets]))
    model.train(mode)
    bound = max(1e-3, 8 * torch.finfo(value.dtype).eps)
    if not torch.allclose(value, twice, rtol=bound, atol=1e-6, equal_nan=True):
        raise ValueError(
            f"the loss must be the mean over samples: it is {value.item():.6g} for some samples "
            f"and {twice.item():.6g} for each of them twice"
        )


@torch.no_grad()
def _check_buffers(model: nn.Module, inputs: Tensor) -> None:
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(inputs)
    changed = [name for name, buffer in model.named_buffers() if not buffer.equal(before[name])]
    for name, buffer in model.named_buffers():
        buffer.copy_(before[name])
    if changed:
        raise ValueError(
            f"training changes the buffer {changed[0]!r}, which workers do not exchange: "
            "use layer or group normalisation instead of batch normalisation"
        )


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
