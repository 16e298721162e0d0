"""What all workers must have been given alike, and what no optimiser may be given at all."""

import gc
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from thinwire.exchange import SERIAL, ExchangeConfig
from thinwire.optim.group_codes import code_name

Named = Sequence[tuple[str, Tensor]]
UNFROZEN = "the list of unfrozen parameters"
_COMPARED = (int, float, complex, str, list, tuple, Tensor, type(None))


def check_is_no_model(params: Any) -> None:
    """Refuse a model in place of its parameters.

    Raises:
        TypeError: it is one.
    """
    if isinstance(params, nn.Module):
        raise TypeError(
            f"params: expected model.named_parameters(), got the model itself "
            f"({type(params).__name__})"
        )


def facts_of(
    group: Mapping[str, Any], named: Named, config: ExchangeConfig, **others: Any
) -> dict[str, Any]:
    """Return what must be the same on every worker for a param group to be exchanged.

    Args:
        group: its options.
        named: names and parameters that are exchanged from now on.
        config: how.
        others: further facts.
    """
    return {
        "the version of thinwire": version("thinwire"),
        **others,
        **_options(group),
        "error_feedback": float(config.error_feedback),
        "axis": config.axis,
        "start": config.start if config.start == SERIAL else code_name(config.start),
        "start_samples": config.start_samples,
        "start_steps": config.start_steps,
        "bucket_mb": config.bucket_mb,
        "the list of parameters": [name for name, _ in named],
        "the list of their shapes": [[*parameter.shape] for _, parameter in named],
        "the list of their dtypes": [parameter.dtype for _, parameter in named],
    }


def facts_now(
    groups: Sequence[Mapping[str, Any]], frozen: Sequence[str], unfrozen: Sequence[str]
) -> dict[str, Any]:
    """Return what must be the same on every worker in a step, since scripts may change it.

    Args:
        groups: all param groups, with their options as they are now.
        frozen: names of the parameters that require no gradient now.
        unfrozen: of those that do, and are not exchanged yet.
    """
    lists = {"the list of frozen parameters": list(frozen), UNFROZEN: list(unfrozen)}
    return {**options_now(groups), **lists}


def options_now(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the options of all param groups as they are now.

    >>> options_now([{"params": [], "lr": 0.1 + 0.2}])
    {'lr of param group 0': 0.3}
    """
    return {
        f"{name} of param group {i}": _rounded(value)
        for i, group in enumerate(groups)
        for name, value in _options(group).items()
    }


def _rounded(value: Any) -> Any:
    """A number to nine digits: schedules may differ in the last bit from machine to machine."""
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    """A param group's options, but for objects of the script's own, of which nothing is known."""
    options = {
        name: value
        for name, value in group.items()
        if name not in ("params", "param_names") and isinstance(value, _COMPARED)
    }
    return {**options, "code": code_name(group["code"])} if "code" in group else options


def check_not_wrapped(named: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse parameters whose gradients DistributedDataParallel exchanges already.

    Raises:
        ValueError: naming the first.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    wrapped = {
        id(parameter)
        for found in gc.get_objects()
        if issubclass(type(found), DistributedDataParallel)
        for parameter in found.__dict__.get("_module_parameters", ())
    }
    for name, parameter in named:
        if id(parameter) in wrapped:
            raise ValueError(
                f"{name}: its gradient is exchanged by DistributedDataParallel already. Either "
                "give thinwire the bare model's parameters and do not wrap the model, or keep "
                "DistributedDataParallel and call thinwire.compress(ddp_model)"
            )
