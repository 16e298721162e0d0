"""Owner-side post-processing: aggregated gradient -> update (S section 3.1, section 4, Table 3).

It runs between the two stages on the owner's stripe alone, so its state is 1/K of the model on each
of K workers. It sees one flat tensor and must be element-wise: nothing in it may depend on where a
parameter begins.
"""

import math
import numbers
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from thinwire.quantize import stage_codes

AdaGrad = Literal["none", "local", "aggregate", "smoothed"]
State = dict[str, Tensor]


def check_group(group: dict[str, Any]) -> None:
    """Raise ValueError, naming the option, unless a param group's options make sense."""
    for name in ("lr", "momentum", "weight_decay", "eps", "batch_size"):
        if name != "batch_size" or group[name] is not None:
            check_number(name, group[name])
    bounds = {
        "lr": (float(group["lr"]) >= 0, ">= 0"),
        "momentum": (0 <= group["momentum"] < 1, "0 <= momentum < 1"),
        "weight_decay": (group["weight_decay"] >= 0, ">= 0"),
        "eps": (group["eps"] >= 0, ">= 0"),
        "batch_size": (group["batch_size"] is None or group["batch_size"] >= 1, "None or >= 1"),
        "adagrad": (group["adagrad"] in get_args(AdaGrad), f"one of {get_args(AdaGrad)}"),
    }
    for name, (holds, expected) in bounds.items():
        if not holds:
            raise ValueError(f"{name}: expected {expected}, got {group[name]!r}")
    stage_codes(group["code"])


def check_number(name: str, value: Any) -> None:
    """Refuse an option that is no finite number.

    Args:
        name: of the option.
        value: a number, or a tensor of one.

    Raises:
        TypeError: it is no number; True and False are none.
        ValueError: it is infinite or NaN.
    """
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")


def state_names(group: dict[str, Any]) -> list[str]:
    """The entries of the owner's state that a param group's options call for."""
    names = ["momentum"] if group["momentum"] else []
    return names + (["adagrad"] if group["adagrad"] in ("aggregate", "smoothed") else [])


def post_process(
    gradient: Tensor,
    parameters: Tensor | None,
    state: State,
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    adagrad: AdaGrad = "none",
    eps: float = 1e-10,
    weight: float = 1.0,
) -> None:
    """Turn the mean gradient into the update that is subtracted from the model, in place.

    Args:
        gradient: float32 ``[n]``, the minibatch's mean gradient; becomes the update.
        parameters: float32 ``[n]``; needed with weight decay only.
        state: "momentum" and "adagrad", float32 ``[n]``; missing entries start at zero.
        lr: learning rate.
        momentum: m of v = m v + w g.
        weight_decay: added to the gradient as ``weight_decay * parameters``.
        adagrad: "aggregate" divides the raw aggregate by the root of its summed squares (the
            paper's best), "smoothed" does so after momentum; "local" was done before the exchange.
        eps: added to AdaGrad's divisor.
        weight: w of v = m v + w g; see ``rates_of_step``.
    """
    if weight_decay:
        if parameters is None:
            raise ValueError("weight_decay: expected the stripe's parameters, got None")
        gradient.add_(parameters, alpha=weight_decay)
    if adagrad == "aggregate":
        _divide_by_root(gradient, _entry(state, "adagrad", gradient), eps)
    if momentum or weight != 1:
        velocity = _entry(state, "momentum", gradient)
        gradient.copy_(velocity.mul_(momentum).add_(gradient, alpha=weight))
    if adagrad == "smoothed":
        _divide_by_root(gradient, _entry(state, "adagrad", gradient), eps)
    gradient.mul_(lr)


class LocalAdaGrad:
    """AdaGrad on each worker's own sub-gradient before quantisation (S section 4, "locally").

    Like ``ErrorFeedback``, a step changes nothing until ``commit``.

    Attributes:
        sum_of_squares: float32 ``[n]`` over the whole bucket, one per worker.
    """

    def __init__(self, n: int, device: torch.device | str = "cpu") -> None:
        self.sum_of_squares = torch.zeros(n, dtype=torch.float32, device=device)
        self._next = torch.zeros(n, dtype=torch.float32, device=device)

    def normalise(self, gradient: Tensor, eps: float) -> None:
        """Divide ``gradient`` by the root of its summed squares plus ``eps``, in place."""
        self._next.copy_(self.sum_of_squares)
        _divide_by_root(gradient, self._next, eps)

    def commit(self) -> None:
        """Keep the sums ``normalise`` made."""
        self.sum_of_squares, self._next = self._next, self.sum_of_squares


def _entry(state: State, name: str, like: Tensor) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(like)
    return state[name]


def _divide_by_root(gradient: Tensor, sum_of_squares: Tensor, eps: float) -> None:
    sum_of_squares.addcmul_(gradient, gradient)
    gradient.div_(sum_of_squares.sqrt().add_(eps))
