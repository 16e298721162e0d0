"""OneBitSGD: data-parallel SGD over 1-bit gradients, in place of DistributedDataParallel."""

from collections.abc import Iterable
from typing import Any, Unpack

from torch import Tensor

from thinwire.optim.bucket import Bucket
from thinwire.optim.exchanged import ExchangedOptimizer, ExchangeOptions
from thinwire.optim.postprocess import AdaGrad, check_group, post_process, state_names
from thinwire.optim.rates import rates_of_step
from thinwire.optim.stages import Group


class OneBitSGD(ExchangedOptimizer):
    """Distributed SGD that sends one bit per gradient value.

    It replaces DistributedDataParallel: give it the bare model's parameters on every worker. It
    copies worker 0's parameters to all at construction (buffers, such as those of batch norm, are
    the caller's), and exchanges gradients itself during backward. Set ``samples`` before backward
    when workers may hold minibatches of different sizes. Under ``no_sync()`` gradients accumulate
    locally, as with DDP. All workers must take the same steps.

    Parameters may be DTensors that ``parallelize_module`` has split over the "model" dimension of a
    mesh ("data", "model"); ``process_group`` is then the data dimension's. Shards are exchanged.

    A param group may override ``lr``, ``momentum``, ``weight_decay``, ``adagrad``, ``eps``,
    ``batch_size``, ``code`` and ``bits`` (for example ``code="float32"`` for embeddings).

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
            are converted where a minibatch differs (``rates_of_step``). None: used as they are.
        code: what one bit means, "sign" or "rotated"; or "float32", the exact twin.
        bits: bits a value, 1, 2, 4 or 8, for both stages or for each, as ``(1, 4)``.
        error_feedback: carry the quantisation error into the next step. Off is for ablations.
        axis: which unit's weights share levels; see ``thinwire.quantize``.
        cold_start: samples to process exactly before the code is used.
        cold_start_mode: "serial": worker 0 trains alone on what it is given, then one broadcast of
            everything (the paper's; nearly free on the wire). Until then ``computes`` is False on
            the other workers and their gradients are ignored. "dense": float32 exchanges.
        bucket_mb: float32 megabytes of gradient after which a bucket is sent. Smaller ones
            overlap more of backward; each costs two collectives.
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
            cold start is not double buffered. Gradients leave in ``step``, not during backward.
        process_group: the workers; a group of its own over the same ranks is made for the
            communication thread. Without torch.distributed the job is one worker.
        timeout: how long a collective may take before it fails.
        after: an optimiser of other parameters that this one takes over from, when one model has
            made way for another: its process group, its ledger and how far its cold start is. It
            must not be used any more. What its residuals carried ends with it.

    Attributes:
        samples: samples in this worker's next minibatch, the weight of its mean gradient. The
            default of 1 everywhere gives DDP's plain mean over workers.
        measure: set it to have the next steps report residual ratios (two more passes each).
        double_buffer: may be changed between steps; what is in flight lands in the next one.
        last_step: the report of the exchange that the last ``step`` or ``flush`` ended, under
            double buffering the half before; None if it ended none.
        times: where the seconds of this worker's exchanges went.
        ledger: traffic of this worker so far.

    Raises:
        ValueError: an argument out of range, naming it, or a DTensor's layout that cannot work.
        FloatingPointError: from ``step``, on every worker alike, after ``max_skips`` non-finite
            steps in a row, or when an update overflows.
    """

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
        **exchange: Unpack[ExchangeOptions],
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "adagrad": adagrad,
            "eps": eps,
            "batch_size": batch_size,
        }
        super().__init__(params, defaults, **exchange)

    def check_group(self, group: dict[str, Any]) -> None:
        """See ``ExchangedOptimizer``."""
        check_group(group)

    def state_names(self, group: dict[str, Any]) -> list[str]:
        """See ``ExchangedOptimizer``."""
        return state_names(group)

    def post_process(
        self, bucket: Bucket, group: Group, gradient: Tensor, start: int, samples: float
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
            bucket.parameter_values(start, start + len(gradient)) if decayed else None,
            bucket.state,
            lr=lr,
            momentum=momentum,
            weight_decay=group["weight_decay"],
            adagrad=adagrad,
            eps=group["eps"],
            weight=weight,
        )
