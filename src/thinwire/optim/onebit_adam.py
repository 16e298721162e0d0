"""OneBitAdam: Adam whose momentum travels in one bit, with a frozen variance.

After Tang et al., "1-bit Adam" (2021). Dense Adam until the cold start ends; then v is frozen and
the momentum takes the gradient's place on the wire:

    m_k = b1 m + (1 - b1) g_k     on worker k
    m   = mean of the m_k         through both quantised stages, each with error feedback
    w  -= lr m_hat / (sqrt(v_hat) + eps)

Momentum smooths what is quantised, so strong momentum does no harm here.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from thinwire.optim.bucket import Bucket
from thinwire.optim.exchanged import ExchangedOptimizer
from thinwire.quantize import Axis, stage_codes

FLOOR = 1e-2  # of its column's mean variance: no value moves more than ten times as fast


class OneBitAdam(ExchangedOptimizer):
    """Adam (AdamW with weight decay) over 1-bit momentum.

    It replaces DistributedDataParallel and the optimiser; see ``OneBitSGD`` for the loop and for
    the arguments that are not listed. Momentum and variance are replicated, as in Adam under DDP.

    A frozen variance must have seen the problem: give the cold start 10 to 20 % of the run. When it
    is frozen, values below ``FLOOR`` of their column's mean are raised to it, and a column that no
    minibatch of the cold start touched rests.

    Args:
        params: as for any torch optimiser; groups may override lr, betas, eps, weight_decay, code
            and bits.
        lr: learning rate.
        betas: decay of momentum and of variance.
        eps: added to the root of the variance.
        weight_decay: decoupled, as in torch.optim.AdamW.
        cold_start: samples to train densely before the variance is frozen; at least 1.
        code: see ``OneBitSGD``, as everything below.
        bits: bits a value, for both stages or for each.
        error_feedback: carry quantisation errors into the next step.
        axis: which unit's weights share levels.
        bucket_mb: float32 megabytes of gradient after which a bucket is sent.
        max_skips: non-finite steps in a row after which ``step`` raises.
        process_group: the workers.
        timeout: how long a collective may take before it fails.

    Raises:
        ValueError: an argument out of range, naming it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        cold_start: int,
        code: str = "sign",
        bits: int | tuple[int, int] = 1,
        error_feedback: bool = True,
        axis: Axis = "output",
        bucket_mb: float = 25.0,
        max_skips: int = 10,
        process_group: dist.ProcessGroup | None = None,
        timeout: timedelta | None = None,
    ) -> None:
        if cold_start < 1:
            raise ValueError(f"cold_start: expected >= 1, got {cold_start}: it makes the variance")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "code": code,
            "bits": bits,
        }
        super().__init__(
            params,
            defaults,
            error_feedback=error_feedback,
            axis=axis,
            cold_start=cold_start,
            cold_start_mode="dense",
            bucket_mb=bucket_mb,
            max_skips=max_skips,
            process_group=process_group,
            timeout=timeout,
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch; every worker must add the same group at the same step."""
        before = len(self._buckets)
        super().add_param_group(param_group)
        for bucket in self._buckets[before:]:
            bucket.shared = {
                "shared_momentum": torch.zeros_like(bucket.scratch),
                "shared_variance": torch.zeros_like(bucket.scratch),
            }
            bucket.scalars = {"steps": 0.0, "variance_steps": 0.0}

    def check_group(self, group: dict[str, Any]) -> None:
        """See ``ExchangedOptimizer``."""
        for name in ("lr", "eps", "weight_decay"):
            if float(group[name]) < 0:
                raise ValueError(f"{name}: expected >= 0, got {group[name]}")
        if not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"betas: expected 0 <= beta < 1, got {group['betas']}")
        stage_codes(group["code"], group["bits"])

    def state_names(self, group: dict[str, Any]) -> list[str]:
        """See ``ExchangedOptimizer``: nothing is sharded."""
        return []

    def collect(self, bucket: Bucket) -> None:
        """Gradient, or once the variance is frozen this worker's momentum."""
        bucket.collect_gradients()
        if self.phase == "steady":
            b1, _ = bucket.group["betas"]
            bucket.scratch.mul_(1 - b1).add_(bucket.shared["shared_momentum"], alpha=b1)

    def post_process(self, bucket: Bucket, gradient: Tensor, start: int, samples: float) -> None:
        """Owners only take the mean, which ``gradient`` is."""

    def apply(self, bucket: Bucket, update: Tensor) -> None:
        """The step of every replica; ``update`` is the decoded mean gradient or momentum."""
        group, scalars = bucket.group, bucket.scalars
        b1, b2 = group["betas"]
        m, v = bucket.shared["shared_momentum"], bucket.shared["shared_variance"]
        scalars["steps"] += 1
        if self.phase == "steady":
            if scalars["variance_steps"] == scalars["steps"] - 1:
                _raise_to_floor(v, bucket.space.columns.table[0])
            m.copy_(update)
        else:
            scalars["variance_steps"] += 1
            m.mul_(b1).add_(update, alpha=1 - b1)
            v.mul_(b2).addcmul_(update, update, value=1 - b2)
        m_hat = m / (1 - b1 ** scalars["steps"])
        v_hat = v / (1 - b2 ** scalars["variance_steps"])
        step = torch.where(v > 0, m_hat.div_(v_hat.sqrt_().add_(group["eps"])), 0.0)
        if group["weight_decay"]:
            values = bucket.parameter_values(0, bucket.space.values)
            step.add_(values, alpha=group["weight_decay"])
        bucket.apply(step.mul_(float(group["lr"])))


def _raise_to_floor(variance: Tensor, offsets: Tensor) -> None:
    """At the end of the cold start; see ``FLOOR``. In place.

    Args:
        variance: ``[n]``.
        offsets: int64 ``[G + 1]``, of the columns.
    """
    lengths = offsets.diff()
    if len(lengths):
        mean = torch.segment_reduce(variance, "mean", lengths=lengths)
        torch.maximum(variance, FLOOR * mean.repeat_interleave(lengths), out=variance)
