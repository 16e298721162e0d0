"""OneBitSGD: data-parallel SGD over 1-bit gradients, in place of DistributedDataParallel."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch import Tensor

from thinwire.exchange import Codes, ExchangeConfig
from thinwire.exchange.former import accepts_former_options
from thinwire.optim.engine import Group
from thinwire.optim.exchanged import ExchangedOptimizer
from thinwire.optim.group_bucket import GroupBucket
from thinwire.optim.postprocess import AdaGrad, check_group, post_process, state_names
from thinwire.optim.rates import rates_of_step
from thinwire.quantize import Axis


class OneBitSGD(ExchangedOptimizer):
    """Distributed SGD that sends one bit per gradient value.

    It replaces DistributedDataParallel: give it the bare model's parameters on every worker. It
    copies worker 0's parameters to all at construction (buffers, such as those of batch norm, are
    the caller's), and exchanges gradients itself during backward. Set ``samples`` before backward
    when workers may hold minibatches of different sizes, or an option is stated in samples. Under
    ``no_sync()`` gradients accumulate locally, as with DDP. All workers must take the same steps.

    Gradients are copied while backward runs, so between backward and ``step`` they may be read but
    not changed: ``step`` then raises, on every worker. ``zero_grad`` and ``discard`` take back what
    has been sent. A second optimiser over the same parameters takes them over from the first, which
    raises when it is used again.

    Parameters may be DTensors that ``parallelize_module`` has split over the "model" dimension of a
    mesh ("data", "model"); ``process_group`` is then the data dimension's. Shards are exchanged.

    A param group may override ``lr``, ``momentum``, ``weight_decay``, ``adagrad``, ``eps``,
    ``batch_size`` and ``code`` (for example ``code="float32"`` for embeddings).

    Args:
        params: as for any torch optimiser; with named parameters, errors name them.
        lr: learning rate on the minibatch's mean gradient.
        momentum: m of v = m v + g; see ``momentum_from_time_constant``.
        weight_decay: as in torch.optim.SGD.
        adagrad: where gradients are divided by the root of their summed squares: "local" (on each
            worker, before quantisation), "aggregate" (at the owner, before momentum; S Table 3's
            best), "smoothed" (at the owner, after momentum) or "none".
        eps: AdaGrad's divisor offset.
        batch_size: samples, over all workers, for which ``lr`` and ``momentum`` are stated; they
            are converted where a minibatch differs (``rates_of_step``). None: used as they are. It
            needs ``samples``.
        code: see ``ExchangeConfig``, as for the other options that are not explained here.
        error_feedback: see there.
        axis: see there.
        start: see there.
        start_samples: see there; counted in ``samples``, which the script must then set.
        start_steps: see there.
        bucket_mb: see there.
        max_skips: non-finite steps in a row after which ``step`` raises.
        double_buffer: call ``step`` once for each half-minibatch and have its exchange go on while
            the next half is computed, on a model that lacks it (S 2.2). With half h's gradient g_h
            at theta_h and the update u_h = U(g_h),

                theta_{h+1} = theta_h - u_{h-1},  u_{-1} = 0.

            ``step`` waits for the exchange before, applies it, and launches this one, with the
            rates of that moment; weight decay is taken of theta_{h+1}. State ``batch_size``, so
            that rates are converted to the half's size. ``flush`` applies what is still in flight:
            at the end of training, or where a model without delay is wanted. ``state_dict`` waits
            for the exchange and stores its update as "pending", so that saving changes nothing. A
            start is not double buffered. Gradients leave in ``step``, not during backward.
        clip_norm: the most that the norm of the minibatch's mean gradient may be; a longer one is
            scaled down before post-processing, as ``torch.nn.utils.clip_grad_norm_`` does after
            DistributedDataParallel's averaging. It costs one small message more a step.
        process_group: the workers; a group of its own over the same ranks is made for the
            communication thread. Without torch.distributed the job is one worker.
        timeout: see there.
        transport: see there.
        after: an optimiser of other parameters that this one takes over from, when one model has
            made way for another: its process group, its ledger and how far its start is. It
            must not be used any more. What its residuals carried ends with it.

    Attributes:
        samples: samples in this worker's next minibatch, the weight of its mean gradient: a
            number from 0 to 2**53. Set it before backward; without it every worker counts 1, which
            gives DDP's plain mean over workers.
        measure: set it to have the next steps report residual ratios (two more passes each).
        double_buffer: may be changed between a step and the next backward, on all workers; what
            is in flight lands in the next step.
        last_step: the report of the exchange that the last ``step`` or ``flush`` ended, under
            double buffering the half before; None if it ended none.
        times: where the seconds of this worker's exchanges went.
        ledger: traffic of this worker so far.

    Raises:
        ValueError: an argument out of range, naming it, or a DTensor's layout that cannot work;
            from backward, ``samples`` was never set although ``batch_size`` or ``start_samples``
            is given.
        WithdrawnError: see ``step``.
        RuntimeError: from ``step``, the optimiser is closed, or another has its parameters.
        FloatingPointError: from ``step``, on every worker alike, after ``max_skips`` non-finite
            steps in a row, or when an update overflows.
    """

    @accepts_former_options("samples")
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        momentum: float = 0.0,
        *,
        weight_decay: float = 0.0,
        adagrad: AdaGrad = "none",
        eps: float = 1e-10,
        batch_size: int | None = None,
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
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "adagrad": adagrad,
            "eps": eps,
            "batch_size": batch_size,
        }
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
            defaults,
            config,
            process_group=process_group,
            max_skips=max_skips,
            double_buffer=double_buffer,
            clip_norm=clip_norm,
            after=after,
        )

    def check_group(self, group: dict[str, Any]) -> None:
        """See ``ExchangedOptimizer``."""
        check_group(group)

    def state_names(self, group: dict[str, Any]) -> list[str]:
        """See ``ExchangedOptimizer``."""
        return state_names(group)

    def post_process(
        self, bucket: GroupBucket, group: Group, gradient: Tensor, start: int, samples: float
    ) -> None:
        """See ``ExchangedOptimizer``; S section 3.1 and Table 3."""
        adagrad: AdaGrad = group["adagrad"]
        lr, momentum, weight = rates_of_step(
            float(group["lr"]),
            group["momentum"],
            group["batch_size"],
            samples,
            normalised=adagrad != "none",
        )
        decayed = group["weight_decay"] != 0
        post_process(
            gradient,
            bucket.own_values(start, start + len(gradient)) if decayed else None,
            bucket.state,
            lr=lr,
            momentum=momentum,
            weight_decay=group["weight_decay"],
            adagrad=adagrad,
            eps=group["eps"],
            weight=weight,
        )
        for kept, idle in zip(bucket.kept, bucket.exchange.idle, strict=True):
            kept |= set() if idle else set(bucket.state)
