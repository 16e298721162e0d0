"""What a model must be for curvature to mean anything: one function of theta for each sample."""

from typing import Any

import torch
from torch import Tensor, nn

from thinwire.curvature.flat import FlatModel

PROBED = 8  # samples


@torch.no_grad()
def check_deterministic(model: FlatModel, inputs: Any, targets: Tensor) -> None:
    """Run a few samples through the model, twice and one half alone.

    Products of a retained graph, losses of trial steps and sums over shards must all be of the same
    function, so the forward may not draw random numbers, change buffers, or let a sample's output
    depend on the others in its batch.

    Args:
        model: the model.
        inputs: [n, ...]; inputs other than a tensor are only tried as they are.
        targets: [n, ...]; tells n.

    Raises:
        TypeError: the model returns something else than one tensor.
        ValueError: naming the property that is missing and the modules to blame.
    """
    if not len(targets):
        return
    some = inputs[:PROBED] if isinstance(inputs, Tensor) else inputs
    theta = model.pieces(model.read())
    before = {name: buffer.clone() for name, buffer in model.model.named_buffers()}
    state = torch.get_rng_state()
    first = model.outputs(theta, some)
    check_outputs(first, "model")
    changed = [
        name
        for name, buffer in model.model.named_buffers()
        if not torch.equal(before[name], buffer)
    ]
    for name, buffer in model.model.named_buffers():
        buffer.copy_(before[name])
    if changed:
        raise ValueError(_blame(model.model, f"its forward changes the buffer {changed[0]!r}"))
    again = model.outputs(theta, some)
    torch.set_rng_state(state)
    if not torch.allclose(first, again, rtol=0, atol=0, equal_nan=True):
        raise ValueError(_blame(model.model, "two forwards of the same samples differ"))
    half = min(PROBED, len(targets)) // 2
    if half and isinstance(inputs, Tensor):
        alone = model.outputs(theta, some[:half])
        if not torch.allclose(first[:half], alone, rtol=1e-3, atol=1e-4, equal_nan=True):
            reason = "a sample's outputs depend on the other samples in its batch"
            raise ValueError(_blame(model.model, reason))


def check_outputs(outputs: Any, what: str) -> None:
    """Refuse outputs that are not one tensor, since curvature is propagated through them.

    Args:
        outputs: what was returned.
        what: what returned it, the first word of the message.

    Raises:
        TypeError: they are something else.
    """
    if not isinstance(outputs, Tensor):
        raise TypeError(
            f"{what}: expected outputs that are one tensor, got {type(outputs).__name__}: pick the "
            "tensor that the loss takes, for example by a module around the model whose forward "
            "returns model(inputs).logits or model(inputs)[0]"
        )


def _blame(model: nn.Module, reason: str) -> str:
    training = [
        f"{name or 'model'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if module.training and not list(module.children()) and _suspect(module)
    ]
    hint = f"; in training mode: {', '.join(training[:3])}" if training else ""
    return f"model: expected a deterministic forward, but {reason}{hint}. Call model.eval() first"


def _suspect(module: nn.Module) -> bool:
    return "Drop" in type(module).__name__ or "BatchNorm" in type(module).__name__
