"""One call that puts the exchange under a model which is data-parallel already.

ddp_model = DistributedDataParallel(model)
state = thinwire.compress(ddp_model)

fully_shard(model)
state = thinwire.compress(model)
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import overload

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from thinwire.ddp import OneBitState, onebit_hook
from thinwire.exchange import DROP_IN_CODE, Codes, ExchangeConfig
from thinwire.fsdp import ShardedState
from thinwire.quantize import Axis


@overload
def compress(
    model: DistributedDataParallel,
    *,
    code: Codes = ...,
    error_feedback: bool | float = ...,
    axis: Axis = ...,
    start: Codes = ...,
    start_steps: int = ...,
    start_samples: int = ...,
    overrides: Mapping[str, Codes] | None = ...,
    grad_scaler: torch.amp.GradScaler | None = ...,
    timeout: timedelta | None = ...,
    transport: str = ...,
) -> OneBitState: ...


@overload
def compress(
    model: FSDPModule,
    *,
    code: Codes = ...,
    error_feedback: bool | float = ...,
    grad_scaler: torch.amp.GradScaler | None = ...,
) -> ShardedState: ...


def compress(
    model: nn.Module | FSDPModule,
    *,
    code: Codes = DROP_IN_CODE,
    error_feedback: bool | float = ExchangeConfig.error_feedback,
    axis: Axis = ExchangeConfig.axis,
    start: Codes = ExchangeConfig.start,
    start_steps: int = ExchangeConfig.start_steps,
    start_samples: int = ExchangeConfig.start_samples,
    overrides: Mapping[str, Codes] | None = None,
    grad_scaler: torch.amp.GradScaler | None = None,
    timeout: timedelta | None = ExchangeConfig.timeout,
    transport: str = ExchangeConfig.transport,
) -> OneBitState | ShardedState:
    """Have a data-parallel model's gradients travel through thinwire from now on.

    Call it once, on every worker at the same point of the script, after the model was wrapped and
    before its first backward.

    Args:
        model: a ``DistributedDataParallel`` model, or one that ``fully_shard`` (FSDP2) was called
            on, whole or layer by layer.
        code: see ``OneBitState``, as for the other options. Under FSDP2 there are ``code``,
            ``error_feedback`` and ``grad_scaler``.
        error_feedback: see there.
        axis: see there.
        start: see there.
        start_steps: see there.
        start_samples: see there.
        overrides: see there.
        grad_scaler: see there.
        timeout: see there.
        transport: see there.

    Returns:
        What this worker keeps, with its ``ledger``, ``state_dict`` and ``load_state_dict``.

    Raises:
        TypeError: the model is neither.
        ValueError: an option out of range, or one that FSDP2 does not have; or the model's
            gradients go through a hook already.
    """
    if isinstance(model, DistributedDataParallel):
        if model._comm_hooks:
            raise ValueError(
                "model: it has a communication hook already, and DistributedDataParallel takes "
                "only one: call thinwire.compress once, on a newly wrapped model"
            )
        state = OneBitState(
            model.process_group,
            code=code,
            error_feedback=error_feedback,
            axis=axis,
            start=start,
            start_steps=start_steps,
            start_samples=start_samples,
            overrides=overrides,
            named_parameters=model.module.named_parameters(),
            grad_scaler=grad_scaler,
            timeout=timeout,
            transport=transport,
        )
        model.register_comm_hook(state, onebit_hook)
        return state
    if not isinstance(model, nn.Module) or not any(
        isinstance(module, FSDPModule) for module in model.modules()
    ):
        raise TypeError(
            "model: expected DistributedDataParallel(model), or a model after fully_shard(model), "
            f"got {type(model).__name__}; for a bare model there are thinwire.OneBitSGD and "
            "thinwire.OwnerOptimizer"
        )
    given = {
        "axis": axis,
        "start": start,
        "start_steps": start_steps,
        "start_samples": start_samples,
        "overrides": overrides or None,
        "timeout": timeout,
        "transport": transport,
    }
    for name, value in given.items():
        if value != getattr(ExchangeConfig, name, None):
            raise ValueError(f"{name}: FSDP2's exchange has no such option, got {value!r}")
    return ShardedState(model, code=code, error_feedback=error_feedback, grad_scaler=grad_scaler)
