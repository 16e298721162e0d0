"""1-bit Adam (Tang et al., 2021) on thinwire's exchange, to be measured; not part of the library.

Dense Adam for a while; then the variance is frozen and the momentum takes the gradient's place on
the wire: each worker quantises m_k = b1 m + (1 - b1) g_k, the owner quantises the mean of the m_k,
and what everyone decodes is the new m. Both stages carry their error to the next step.
"""

import torch
from torch import Tensor, nn

from thinwire.exchange import Ledger, ParameterBucket, own_wire
from thinwire.quantize import stage_codes

FLOOR = 1e-2  # of a row's mean variance: no value moves more than ten times as fast as its row


class OneBitAdam(torch.optim.Optimizer):
    """Adam whose momentum travels, for one param group.

    Args:
        model: its parameters; gradients are this worker's own, not yet exchanged.
        lr: learning rate.
        betas: as in torch.optim.Adam.
        warmup: dense steps before the variance is frozen.
        code: how the momentum travels from then on.
        eps: as in torch.optim.Adam.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        betas: tuple[float, float],
        warmup: int,
        code: str = "sign",
        eps: float = 1e-8,
    ) -> None:
        super().__init__(model.parameters(), {"lr": lr})
        self.params = self.param_groups[0]["params"]
        self.betas, self.warmup, self.eps = betas, warmup, eps
        self.codes, self.exact, self.steps = stage_codes(code), stage_codes("float32"), 0
        self.ledger = Ledger()
        self.wire = own_wire(None, None, self.ledger)
        named = [(f"parameter {i}", p) for i, p in enumerate(self.params)]
        self.bucket = ParameterBucket(
            named, self.codes, self.wire, axis="output", error_feedback=True
        )
        self.m = [torch.zeros_like(p) for p in self.params]
        self.v = [torch.zeros_like(p) for p in self.params]

    def mean(self, local: list[Tensor], dense: bool) -> list[Tensor]:
        """Both stages: the mean over workers of what each holds, as all decode it."""
        codes, bucket = self.exact if dense else self.codes, self.bucket
        bucket.space.collect(local, bucket.scratch)
        bucket.reduce(self.wire, 1.0, codes=codes)
        bucket.sum.div_(self.wire.world)
        mean = bucket.scratch.new_empty(bucket.space.values)
        bucket.distribute(self.wire, mean, codes=codes)
        bucket.commit()
        return bucket.space.views(mean)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update; bias correction of the variance stops where the variance does."""
        self.steps += 1
        (b1, b2), dense = self.betas, self.steps <= self.warmup
        gradients = [p.grad for p in self.params]
        if dense:
            gradients = self.mean(gradients, dense)
            for v, g in zip(self.v, gradients, strict=True):
                v.mul_(b2).addcmul_(g, g, value=1 - b2)
        m = [b1 * m + (1 - b1) * g for m, g in zip(self.m, gradients, strict=True)]
        self.m = m if dense else [x.clone() for x in self.mean(m, dense)]
        if self.steps == self.warmup + 1:
            self.v = [v.clamp_(min=FLOOR * v.mean(-1, keepdim=True)) for v in self.v]
        one, two = 1 - b1**self.steps, 1 - b2 ** min(self.steps, self.warmup)
        for p, m_, v in zip(self.params, self.m, self.v, strict=True):
            size = (v / two).sqrt_().add_(self.eps)
            # A row that no batch of the warm-up touched has no scale of its own, and rests.
            p.sub_(torch.where(v > 0, m_ / one / size, 0.0), alpha=self.param_groups[0]["lr"])
