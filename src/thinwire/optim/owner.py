"""OwnerOptimizer: any element-wise torch optimiser at the owner, between the two stages.

Its state is 1/K of the model on each of K workers, and the update is what the second stage carries
(S section 3.1: "summed up, post-processed and redistributed").
"""

import inspect
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange import Codes, ExchangeConfig
from thinwire.exchange.former import accepts_former_options
from thinwire.optim.engine import Group
from thinwire.optim.exchanged import ExchangedOptimizer
from thinwire.optim.group_bucket import GroupBucket
from thinwire.quantize import Axis, stage_codes

_PROBE = 6  # values; not the shape of any scalar


class OwnerOptimizer(ExchangedOptimizer):
    """A torch optimiser whose state and arithmetic are sharded over the stripes' owners.

    ``OwnerOptimizer(torch.optim.AdamW, model.named_parameters(), lr=1e-3)`` replaces
    DistributedDataParallel and AdamW. For the loop, ``samples``, ``no_sync`` and failures see
    ``OneBitSGD``; they are the same.

    Args:
        optimizer_class: an optimiser that treats every value alone, such as SGD, Adam, AdamW,
            RMSprop, NAdam. It is probed: one that looks at whole tensors (LBFGS, Adafactor, Muon)
            is refused.
        params: as for any torch optimiser; groups may override its options and ``code``.
        code: see ``ExchangeConfig``, as for the other options that are not explained here.
        error_feedback: see there.
        axis: see there.
        start: see there.
        start_samples: see there; counted in ``samples``, which the script must then set.
        start_steps: see there.
        bucket_mb: see there.
        max_skips: see ``OneBitSGD``.
        double_buffer: see ``OneBitSGD``; the optimiser's rates then count for each half.
        process_group: see ``OneBitSGD``.
        timeout: see there.
        transport: see there.
        after: see ``OneBitSGD``.
        options: the optimiser's own, such as ``lr`` and ``betas``.

    Raises:
        TypeError: an option the optimiser does not know.
        ValueError: the optimiser is not element-wise, or an argument is out of range.
    """

    @accepts_former_options("samples")
    def __init__(
        self,
        optimizer_class: type[torch.optim.Optimizer],
        params: Iterable[Any],
        *,
        code: Codes = ExchangeConfig.code,
        error_feedback: bool = ExchangeConfig.error_feedback,
        axis: Axis = ExchangeConfig.axis,
        start: Codes = ExchangeConfig.start,
        start_samples: int = ExchangeConfig.start_samples,
        start_steps: int = ExchangeConfig.start_steps,
        bucket_mb: float = ExchangeConfig.bucket_mb,
        max_skips: int = 10,
        double_buffer: bool = False,
        process_group: dist.ProcessGroup | None = None,
        timeout: timedelta | None = ExchangeConfig.timeout,
        transport: str = ExchangeConfig.transport,
        after: ExchangedOptimizer | None = None,
        **options: Any,
    ) -> None:
        self._class = optimizer_class
        self._inner: dict[GroupBucket, torch.optim.Optimizer] = {}
        self._options = probe(optimizer_class, options).defaults
        config = ExchangeConfig(
            code=code,
            error_feedback=error_feedback,
            axis=axis,
            start=start,
            start_samples=start_samples,
            start_steps=start_steps,
            bucket_mb=bucket_mb,
            timeout=timeout,
            transport=transport,
        )
        super().__init__(
            params,
            dict(self._options),
            config,
            process_group=process_group,
            max_skips=max_skips,
            double_buffer=double_buffer,
            after=after,
        )

    def check_group(self, group: dict[str, Any]) -> None:
        """See ``ExchangedOptimizer``."""
        stage_codes(group["code"])
        self._probe_state(group)

    def state_names(self, group: dict[str, Any]) -> list[str]:
        """See ``ExchangedOptimizer``."""
        return [name for name, value in self._probe_state(group).items() if _per_value(value)]

    def scalar_names(self, group: dict[str, Any]) -> list[str]:
        """See ``ExchangedOptimizer``."""
        return [name for name, value in self._probe_state(group).items() if not _per_value(value)]

    def post_process(
        self, bucket: GroupBucket, group: Group, gradient: Tensor, start: int, samples: float
    ) -> None:
        """See ``ExchangedOptimizer``: update = parameters before - parameters after."""
        before = bucket.own_values(start, start + len(gradient))
        if bucket not in self._inner or len(_master(self._inner[bucket])) != len(gradient):
            options = self._own_options(group)
            self._inner[bucket] = self._class([Parameter(before.clone())], **options)
        inner = self._inner[bucket]
        inner.param_groups[0].update(self._own_options(group))  # schedulers change them
        master = _master(inner)
        master.data.copy_(before)
        master.grad = gradient
        if bucket.state or bucket.scalars:
            inner.state[master] = {
                **bucket.state,
                **{name: torch.tensor(value) for name, value in bucket.scalars.items()},
            }
        inner.step()
        state: Mapping[str, Any] = inner.state[master]
        names = self.state_names(group)
        bucket.state = {name: state[name] for name in names}
        bucket.scalars = {name: float(v) for name, v in state.items() if name not in names}
        master.grad = None
        torch.sub(before, master.data, out=gradient)

    def _own_options(self, group: dict[str, Any]) -> dict[str, Any]:
        # Some optimisers keep defaults that are no arguments (AdamW: decoupled_weight_decay).
        known = inspect.signature(self._class).parameters
        return {name: group[name] for name in self._options if name in known}

    def _probe_state(self, group: dict[str, Any]) -> dict[str, Any]:
        inner = probe(self._class, self._own_options(group))
        return dict(inner.state[_master(inner)])


def probe(
    optimizer_class: type[torch.optim.Optimizer], options: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Try an optimiser on a few values, together and one by one.

    Returns:
        The optimiser of the values together, after three steps.

    Raises:
        ValueError: the results differ, so it is not element-wise.
    """
    generator = torch.Generator().manual_seed(0)
    start, *gradients = torch.randn(4, _PROBE, generator=generator)
    together = _after([start], [[g] for g in gradients], optimizer_class, options)
    alone = _after(
        list(start.split(1)), [list(g.split(1)) for g in gradients], optimizer_class, options
    )
    own, parts = together.param_groups[0]["params"][0], alone.param_groups[0]["params"]
    if not torch.allclose(own, torch.cat(list(parts)), rtol=1e-5, atol=1e-7):
        raise ValueError(
            f"{optimizer_class.__name__} is not element-wise: it looks at whole parameters, which "
            "owners do not have; use the hook (thinwire.onebit_hook) with it"
        )
    return together


def _after(
    values: list[Tensor],
    gradients: list[list[Tensor]],
    optimizer_class: type[torch.optim.Optimizer],
    options: Mapping[str, Any],
) -> torch.optim.Optimizer:
    with torch.enable_grad():
        parameters = [Parameter(value.clone()) for value in values]
        try:
            inner = optimizer_class(parameters, **options)
            for step in gradients:
                for parameter, gradient in zip(parameters, step, strict=True):
                    parameter.grad = gradient.clone()
                inner.step()
        except (TypeError, ValueError) as error:
            name = optimizer_class.__name__
            raise type(error)(f"{name} cannot run at the owner: {error}") from error
    return inner


def _master(inner: torch.optim.Optimizer) -> Parameter:
    master: Parameter = inner.param_groups[0]["params"][0]
    return master


def _per_value(value: Any) -> bool:
    return isinstance(value, Tensor) and value.shape == (_PROBE,)
