"""Which parameters and gradients can be exchanged: asked in one place by every front end."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Parameter

REAL = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
TRAINED = (*REAL, torch.complex64, torch.complex128)  # where real and imaginary parts travel


def check_parameters(
    named: Iterable[tuple[str, Tensor]], *, dtypes: tuple[torch.dtype, ...] = TRAINED
) -> None:
    """Refuse parameters that the exchange cannot take, before anything is sent.

    Those that do not require a gradient are left alone, whatever they are.

    Args:
        named: names and parameters.
        dtypes: what the front end can train.

    Raises:
        TypeError: naming the first parameter of another dtype, or that is not dense.
        ValueError: naming a parameter that is given twice, or has no values (the meta device).
    """
    names: dict[Tensor, str] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        if parameter in names:
            raise ValueError(
                f"{name}: expected every parameter once, got it as {names[parameter]} before: give "
                "tied weights once, as model.named_parameters() does"
            )
        names[parameter] = name
        if parameter.is_meta and type(parameter) in (Tensor, Parameter):  # FSDP fills its own later
            raise ValueError(
                f"{name}: expected a parameter that has values, got one on the meta device: put "
                "the model on its device first, by model.to_empty(device=...) and initialisation"
            )
        if parameter.dtype not in dtypes:
            raise TypeError(
                f"{name}: expected a parameter of dtype {_listed(dtypes)}, got "
                f"{_short(parameter.dtype)}: freeze it (requires_grad_(False)), or train it in "
                "another dtype"
            )
        if parameter.is_complex() and isinstance(parameter, DTensor):
            raise TypeError(
                f"{name}: expected a real DTensor, got {_short(parameter.dtype)}: keep its real "
                "and its imaginary part in parameters of their own"
            )
        if parameter.layout != torch.strided or parameter.is_conj() or parameter.is_neg():
            raise TypeError(
                f"{name}: expected a dense parameter with memory of its own, got layout "
                f"{_short(parameter.layout)}, is_conj {parameter.is_conj()}: make it of "
                "a copy (to_dense(), resolve_conj())"
            )


def check_gradient(name: str, gradient: Tensor | None) -> None:
    """Refuse a sparse gradient.

    Raises:
        TypeError: naming the parameter.
    """
    if gradient is not None and gradient.layout != torch.strided:
        raise TypeError(
            f"{name}: expected a dense gradient, got layout {_short(gradient.layout)}: make the "
            "module with sparse=False. What is exchanged is dense: a code gives every value of a "
            "column a level, so a sparse gradient would not be sparse when it arrives"
        )


def _listed(dtypes: Iterable[torch.dtype]) -> str:
    return ", ".join(_short(dtype) for dtype in dtypes)


def _short(constant: torch.dtype | torch.layout) -> str:
    return str(constant).removeprefix("torch.")
