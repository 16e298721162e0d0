"""Losses that are no plain means over samples: a sum and the weight it is to be divided by.

A mean over the samples that a worker happens to hold is a summand of the mean over all samples only
if every sample counts the same. Where some count more than others (class weights) or not at all
(padding, ``ignore_index``), the sum over all samples is divided by the sum of their weights:

    f(theta) = sum_k s_k(theta) / sum_k w_k        s_k, w_k of the samples of worker k

which is what torch computes of all samples together.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thinwire.curvature.output_hessian import Loss

WeightedLoss = Callable[[Any, Tensor], tuple[Tensor, Any]]
"""(outputs, targets) -> (sum over samples, their weight); the weight depends on targets only."""

_IGNORED = -100  # torch's own default
_FUNCTIONS = {F.cross_entropy: F.cross_entropy, F.nll_loss: F.nll_loss}
_MODULES = {nn.CrossEntropyLoss: F.cross_entropy, nn.NLLLoss: F.nll_loss}


def torch_loss(loss: Any) -> tuple[Callable[..., Tensor], dict[str, Any]] | None:
    """Return the function and the options of torch's losses that look at classes.

    Args:
        loss: such a module, the function itself, or ``functools.partial`` of it with options by
            name.

    Returns:
        None if it is another loss.
    """
    if type(loss) in _MODULES:
        options = {"weight": loss.weight, "ignore_index": loss.ignore_index}
        if isinstance(loss, nn.CrossEntropyLoss):
            options["label_smoothing"] = loss.label_smoothing
        return _MODULES[type(loss)], {**options, "reduction": loss.reduction}
    inner = loss.func if isinstance(loss, functools.partial) and not loss.args else loss
    if not isinstance(inner, type(F.cross_entropy)) or inner not in _FUNCTIONS:
        return None
    given = loss.keywords if isinstance(loss, functools.partial) else {}
    return inner, {"weight": None, "ignore_index": _IGNORED, "reduction": "mean", **given}


def by_classes(function: Callable[..., Tensor], options: dict[str, Any]) -> WeightedLoss:
    """Return one of torch's losses over classes, as ``torch_loss`` has it, as (sum, weight)."""
    summed = functools.partial(function, **{**options, "reduction": "sum"})

    def weighted(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return summed(outputs, targets), class_weight(targets, options)

    return weighted


def class_weight(targets: Tensor, options: dict[str, Any]) -> Tensor:
    """Return what torch divides the sum over these targets by.

    Args:
        targets: class numbers of any shape, or probabilities [n, classes, ...].
        options: "weight" and "ignore_index", as in ``torch.nn.CrossEntropyLoss``.
    """
    if targets.is_floating_point():  # torch divides by the number of positions
        return torch.tensor(targets[:, :1].numel(), dtype=torch.float64, device="cpu")
    counted: Tensor = targets != options["ignore_index"]
    weights: Tensor | None = options["weight"]
    if weights is None:
        return counted.sum(dtype=torch.float64)
    chosen: Tensor = weights[targets[counted]]
    return chosen.sum(dtype=torch.float64)


def needs_weights(targets: Tensor, options: dict[str, Any]) -> bool:
    """Whether a loss over classes is other than a mean over samples, a target for each.

    Args:
        targets: see ``class_weight``.
        options: see there.
    """
    if targets.is_floating_point():
        return False
    several = targets.ndim > 1  # where one worker has padding, the others count targets as well
    ignored = bool((targets == options["ignore_index"]).any())
    return several or options["weight"] is not None or ignored


def as_mean(loss: WeightedLoss) -> Loss:
    """Return the sum divided by the number of targets, in place of a mean over samples.

    What scales means by (number of samples / total) then scales sums by 1 / total, where the total
    is the sum of weights.
    """

    def mean(outputs: Tensor, targets: Tensor) -> Tensor:
        return loss(outputs, targets)[0] / max(1, len(targets))

    return mean


def check_mean(loss: Loss, outputs: Any, targets: Tensor) -> None:
    """Refuse a loss that is no mean over samples, each with the same weight.

    Args:
        loss: (outputs, targets) -> scalar.
        outputs: [n, ...]; other outputs than a tensor are only looked at as a whole.
        targets: [n, ...].

    Raises:
        TypeError: it returns no tensor of one value.
        ValueError: the loss of the samples is not the mean of the losses of two parts of them.
    """
    whole = loss(outputs, targets)
    if not isinstance(whole, Tensor) or whole.numel() != 1:
        got = f"shape {[*whole.shape]}" if isinstance(whole, Tensor) else type(whole).__name__
        raise TypeError(
            "loss: expected (outputs, targets) -> a mean over samples, one number, or (sum, "
            f"weight), got {got}"
        )
    n = len(targets)
    if n < 2 or not isinstance(outputs, Tensor) or len(outputs) != n:
        return
    cut = max(1, n // 3)
    first = loss(outputs[:cut], targets[:cut])
    parts = (cut * first + (n - cut) * loss(outputs[cut:], targets[cut:])) / n
    tolerance = 1e-2 if whole.dtype in (torch.float16, torch.bfloat16) else 1e-4
    if not torch.allclose(whole, parts, rtol=tolerance, atol=tolerance, equal_nan=True):
        raise ValueError(
            "loss: expected a mean over samples, each with the same weight, got "
            f"{float(whole):.6g} for {n} samples whose parts have the mean {float(parts):.6g}. A "
            'loss with reduction="sum", class weights or padding may return (sum, weight): it '
            "is then the sum over all workers divided by the sum of weights"
        )
