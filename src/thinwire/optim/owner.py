"""OwnerOptimizer: torch optimisers at the owner, between the two stages.

Their state is 1/K of the model on each of K workers, and the update is what the second stage
carries (S section 3.1: "summed up, post-processed and redistributed").

[Jordan 2024] is *Muon: An optimizer for hidden layers in neural networks*, [Shazeer 2018]
*Adafactor: Adaptive Learning Rates with Sublinear Memory Cost*, [Gupta 2018] *Shampoo:
Preconditioned Stochastic Tensor Optimization*, [You 2020] *Large Batch Optimization for Deep
Learning: Training BERT in 76 minutes* and [You 2017] *Large Batch Training of Convolutional
Networks*.
"""

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Parameter

from thinwire.exchange import Codes, ExchangeConfig
from thinwire.exchange.former import accepts_former_options
from thinwire.optim.coupling import Ownership, defaults_of, first_state, ownership
from thinwire.optim.engine import Group
from thinwire.optim.exchanged import ExchangedOptimizer
from thinwire.optim.group_bucket import GroupBucket
from thinwire.optim.owner_update import FEW, per_value, update_runs, update_whole
from thinwire.optim.postprocess import check_number
from thinwire.quantize import Axis, stage_codes

logger = logging.getLogger("thinwire")


class OwnerOptimizer(ExchangedOptimizer):
    """A torch optimiser whose state and arithmetic are sharded over the owners.

    ``OwnerOptimizer(torch.optim.AdamW, model.named_parameters(), lr=1e-3)`` replaces
    DistributedDataParallel and AdamW. For the loop, ``samples``, ``no_sync`` and failures see
    ``OneBitSGD``; they are the same.

    A param group may have an optimiser of its own, as matrices do that Muon trains:

        OwnerOptimizer(
            torch.optim.AdamW,
            [
                {"params": matrices, "optimizer": torch.optim.Muon, "lr": 0.02},
                {"params": the_rest},
            ],
            lr=3e-4,
        )

    Every optimiser is tried on small tensors first (``coupling.ownership``). One that treats every
    value alone, such as SGD, Adam, AdamW, RMSprop or NAdam, runs on stripes. One that looks at
    whole tensors, such as Muon [Jordan 2024], Adafactor [Shazeer 2018], Shampoo [Gupta 2018], LAMB
    [You 2020] or LARS [You 2017], runs on whole parameters, which are shared out among the workers
    by size, so its updates are those of one worker. One that couples all parameters, as by a global
    norm, is refused. What was found is logged, and ``ownership`` tells it.

    Args:
        optimizer_class: of all param groups that do not say otherwise.
        params: as for any torch optimiser; groups may override the options and ``code``, or have
            an ``optimizer`` of their own, which begins with its own defaults.
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
        options: of ``optimizer_class``, such as ``lr`` and ``betas``.

    Raises:
        TypeError: an option the optimiser does not know.
        ValueError: an optimiser that cannot run at an owner, or not on one of its parameters; or
            an argument is out of range.
    """

    @accepts_former_options("samples")
    def __init__(
        self,
        optimizer_class: type[torch.optim.Optimizer],
        params: Iterable[Any],
        *,
        code: Codes = ExchangeConfig.code,
        error_feedback: bool | float = ExchangeConfig.error_feedback,
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
        _check_class("optimizer_class", optimizer_class)
        for name, value in options.items():
            _check_option(optimizer_class, name, value)
        self._forms: dict[Any, dict[str, Any]] = {}  # of state, by which options are on
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
            {**defaults_of(optimizer_class, options), "optimizer": optimizer_class},
            config,
            process_group=process_group,
            max_skips=max_skips,
            double_buffer=double_buffer,
            clip_norm=clip_norm,
            after=after,
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch; every worker must add the same group at the same step."""
        common = self.defaults
        given = param_group if isinstance(param_group, Mapping) else {}
        own = given.get("optimizer", common["optimizer"])
        if own is not common["optimizer"]:
            _check_class("optimizer", own)
            options = _options_of(own, given)
            _check_not_of(common["optimizer"], own, given)
            for name, value in options.items():
                _check_option(own, name, value)
            known = {**defaults_of(own, options), "code": common["code"], "optimizer": own}
            self.defaults = known
        try:
            super().add_param_group(param_group)
        finally:
            self.defaults = common

    def ownership(self, group: Mapping[str, Any]) -> Ownership:
        """Return what workers own of a param group: runs of values, or whole parameters."""
        return ownership(group["optimizer"], _options_of(group["optimizer"], group))

    def check_group(self, group: dict[str, Any]) -> None:
        """See ``ExchangedOptimizer``."""
        stage_codes(group["code"])
        self.ownership(group)

    def owns_whole(self, group: dict[str, Any], named: Sequence[tuple[str, Parameter]]) -> bool:
        """See ``ExchangedOptimizer``."""
        kind, found = group["optimizer"], self.ownership(group)
        whole = found == "whole parameters"
        if whole:
            for name, parameter in named:
                _check_whole(kind, _options_of(kind, group), name, parameter)
        looks = "at whole tensors" if whole else "at every value alone"
        logger.info("%s looks %s: every worker owns %s", kind.__name__, looks, found)
        return whole

    def state_names(self, group: dict[str, Any]) -> list[str]:
        """See ``ExchangedOptimizer``."""
        return [name for name, value in self._form_of(group).items() if per_value(value)]

    def first_state(self, group: dict[str, Any], like: Tensor) -> dict[str, Tensor]:
        """See ``ExchangedOptimizer``."""
        found = first_state(group["optimizer"], _options_of(group["optimizer"], group), like)
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def facts(self, group: dict[str, Any]) -> dict[str, Any]:
        """See ``ExchangedOptimizer``."""
        name = group["optimizer"].__qualname__
        return {"the optimiser": name, "ownership": self.ownership(group), **super().facts(group)}

    def post_process(
        self, bucket: GroupBucket, group: Group, gradient: Tensor, start: int, samples: float
    ) -> None:
        """See ``ExchangedOptimizer``: update = parameters before - parameters after."""
        whole, kind = bucket.exchange.whole, group["optimizer"]
        form = self._form_of(group, whole=whole)  # refuses options that couple more than before
        if whole:
            update_whole(bucket, kind, _options_of(kind, group), gradient, start)
        else:
            update_runs(bucket, kind, _options_of(kind, group), form, gradient, start)

    def _form_of(self, group: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
        """What the optimiser keeps of a few values; which of its options are on decides that.

        Args:
            group: its options, which scripts may have changed.
            whole: it was given whole parameters, of which there is no such form.

        Raises:
            ValueError: with its options as they are now it couples more than it did.
        """
        kind = group["optimizer"]
        options = _options_of(kind, group)
        on = kind, whole, tuple((name, _is_on(value)) for name, value in sorted(options.items()))
        if on not in self._forms:
            if ownership(kind, options) != "runs of values" and not whole:
                raise ValueError(
                    f"{kind.__name__} looked at every value alone when it was made, and looks at "
                    "whole tensors with its options as they are now: make a new optimiser (after=)"
                )
            few = torch.zeros(FEW, dtype=torch.float32, device="cpu")
            self._forms[on] = {} if whole else first_state(kind, options, few)
        return self._forms[on]


def _options_of(kind: type[torch.optim.Optimizer], group: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a param group that its optimiser is made with."""
    # Some optimisers keep defaults that are no arguments (AdamW: decoupled_weight_decay).
    return {name: group[name] for name in _arguments(kind) if name in group}


def _arguments(kind: type) -> list[str]:
    """Names of what a class is made with, beside its parameters; of its bases, if it passes on.

    >>> init = lambda self, params, **more: None
    >>> _arguments(type("Mine", (torch.optim.SGD,), {"__init__": init}))[:2]
    ['lr', 'momentum']
    """
    names: list[str] = []
    for base in kind.__mro__:
        if init := vars(base).get("__init__"):
            _, _, *arguments = inspect.signature(init).parameters.values()
            names += [a.name for a in arguments if a.kind is not a.VAR_KEYWORD]
            if all(a.kind is not a.VAR_KEYWORD for a in arguments):
                break
    return names


def _check_class(name: str, kind: Any) -> None:
    if not isinstance(kind, type) or not issubclass(kind, torch.optim.Optimizer):
        raise TypeError(
            f"{name}: expected a class such as torch.optim.AdamW, got "
            f"{type(kind).__name__}: write OwnerOptimizer(torch.optim.AdamW, "
            "model.named_parameters(), lr=1e-3)"
        )


def _check_not_of(
    common: type[torch.optim.Optimizer],
    own: type[torch.optim.Optimizer],
    group: Mapping[str, Any],
) -> None:
    """Refuse options that only the optimiser of the other groups has."""
    foreign = sorted(_options_of(common, group).keys() - _options_of(own, group).keys())
    if foreign:
        raise TypeError(
            f"{own.__name__} has no option {foreign[0]!r}, which is {common.__name__}'s: leave it "
            f'out of the param group with "optimizer": {own.__name__}'
        )


def _check_whole(
    kind: type[torch.optim.Optimizer], options: Mapping[str, Any], name: str, parameter: Tensor
) -> None:
    """Refuse a parameter that an optimiser of whole tensors cannot have, or does not take."""
    if isinstance(parameter, DTensor):
        raise ValueError(
            f"{name}: expected an ordinary parameter, got a DTensor: {kind.__name__} looks at "
            "whole tensors, and no worker has one of it"
        )
    if parameter.is_complex():
        raise ValueError(
            f"{name}: expected real values, got {parameter.dtype}: {kind.__name__} looks at whole "
            "tensors, and complex ones travel as real ones of another shape"
        )
    like = torch.empty(parameter.shape, dtype=torch.float32, device="meta")
    try:
        defaults_of(kind, options, like)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name}: {error}. Give it to another optimiser, in a param group of its own"
        ) from error


def _check_option(optimizer_class: type, name: str, value: Any) -> None:
    """Refuse what is no finite number where the optimiser's default is one."""
    known = inspect.signature(optimizer_class).parameters
    default = known[name].default if name in known else None
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        check_number(name, value)


def _is_on(value: Any) -> Any:
    """Whether an option is other than zero, False or None; of each part of a pair.

    >>> _is_on(0.9), _is_on((0.0, 0.99)), _is_on(torch.tensor(0.1))
    (True, (False, True), True)
    """
    return tuple(map(_is_on, value)) if isinstance(value, (tuple, list)) else bool(value)
