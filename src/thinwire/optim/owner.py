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
from thinwire.optim.postprocess import check_number
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
        clip_norm: see ``OneBitSGD``.
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
        clip_norm: float | None = None,
        process_group: dist.ProcessGroup | None = None,
        timeout: timedelta | None = ExchangeConfig.timeout,
        transport: str = ExchangeConfig.transport,
        after: ExchangedOptimizer | None = None,
        **options: Any,
    ) -> None:
        _check_class(optimizer_class)
        for name, value in options.items():
            _check_option(optimizer_class, name, value)
        self._class = optimizer_class
        self._forms: dict[Any, dict[str, Any]] = {}  # of state, by which options are on
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
            clip_norm=clip_norm,
            after=after,
        )

    def check_group(self, group: dict[str, Any]) -> None:
        """See ``ExchangedOptimizer``."""
        stage_codes(group["code"])
        probe(self._class, self._own_options(group))

    def state_names(self, group: dict[str, Any]) -> list[str]:
        """See ``ExchangedOptimizer``."""
        return [name for name, value in self._probe_state(group).items() if _per_value(value)]

    def facts(self) -> dict[str, Any]:
        """See ``ExchangedOptimizer``."""
        return {"the optimiser": self._class.__qualname__, **super().facts()}

    def post_process(
        self, bucket: GroupBucket, group: Group, gradient: Tensor, start: int, samples: float
    ) -> None:
        """See ``ExchangedOptimizer``: update = parameters before - parameters after.

        The optimiser sees this owner's part of each parameter as a parameter of its own, which may
        be empty, so that what is counted by parameter, such as Adam's steps, is the same on every
        worker. A parameter that is idle has no gradient, and the optimiser leaves it alone.
        """
        before = bucket.own_values(start, start + len(gradient))
        after = before.clone()
        runs = bucket.owned_runs(start, start + len(gradient))
        parts = [after[run].requires_grad_() for run in runs]
        inner = self._class(parts, **self._own_options(group))
        form = self._probe_state(group)
        given = [self._state_of(bucket, i, run, form) for i, run in enumerate(runs)]
        for part, run, state, idle in zip(parts, runs, given, bucket.exchange.idle, strict=True):
            part.grad = None if idle else gradient[run]
            if state:
                inner.state[part] = dict(state)
        inner.step()
        for i, (part, run) in enumerate(zip(parts, runs, strict=True)):
            for name, value in inner.state.get(part, {}).items():
                if not _per_value(form.get(name)):
                    bucket.scalars[i] |= {} if value is None else {name: float(value)}
                elif value is not given[i].get(name):  # else it is a view of what is kept
                    bucket.state.setdefault(name, torch.zeros_like(gradient))[run] = value
                    bucket.kept[i].add(name)
        torch.sub(before, after, out=gradient)

    def _state_of(
        self, bucket: GroupBucket, i: int, run: slice, form: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the optimiser knows of this owner's part, ``run``, of the i-th parameter."""
        scalars = {n: _scalar(value, form.get(n)) for n, value in bucket.scalars[i].items()}
        return {**{name: bucket.state[name][run] for name in bucket.kept[i]}, **scalars}

    def _own_options(self, group: dict[str, Any]) -> dict[str, Any]:
        # Some optimisers keep defaults that are no arguments (AdamW: decoupled_weight_decay).
        known = inspect.signature(self._class).parameters
        return {name: group[name] for name in self._options if name in known}

    def _probe_state(self, group: dict[str, Any]) -> dict[str, Any]:
        """What the optimiser keeps of a few values; which of its options are on decides that."""
        options = self._own_options(group)
        on = tuple((name, _is_on(value)) for name, value in sorted(options.items()))
        if on not in self._forms:
            inner = probe(self._class, options)
            self._forms[on] = dict(inner.state[inner.param_groups[0]["params"][0]])
        return self._forms[on]


def _check_class(optimizer_class: Any) -> None:
    if not isinstance(optimizer_class, type) or not issubclass(
        optimizer_class, torch.optim.Optimizer
    ):
        raise TypeError(
            "optimizer_class: expected a class such as torch.optim.AdamW, got "
            f"{type(optimizer_class).__name__}: write OwnerOptimizer(torch.optim.AdamW, "
            "model.named_parameters(), lr=1e-3)"
        )


def _check_option(optimizer_class: type, name: str, value: Any) -> None:
    """Refuse what is no finite number where the optimiser's default is one."""
    known = inspect.signature(optimizer_class).parameters
    default = known[name].default if name in known else None
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        check_number(name, value)


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
    start, *gradients = torch.randn(
        4, _PROBE, generator=generator, dtype=torch.float32, device="cpu"
    )
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


def _per_value(value: Any) -> bool:
    return isinstance(value, Tensor) and value.shape == (_PROBE,)


def _is_on(value: Any) -> Any:
    """Whether an option is other than zero, False or None; of each part of a pair.

    >>> _is_on(0.9), _is_on((0.0, 0.99)), _is_on(torch.tensor(0.1))
    (True, (False, True), True)
    """
    return tuple(map(_is_on, value)) if isinstance(value, (tuple, list)) else bool(value)


def _scalar(value: float, like: Any) -> Any:
    """A number of the optimiser's state in the form that the optimiser gives it."""
    if not isinstance(like, Tensor):
        return value
    return torch.tensor(value, dtype=like.dtype, device="cpu")
