"""Buffers of a model whose workers train apart: batch norm's running statistics."""

from collections.abc import Iterable

import torch
from torch import Tensor

from thinwire.exchange import Wire

_STAGE = "buffers"


class AveragedBuffers:
    """Floating-point buffers become their mean over workers, others the greatest of them.

    A worker whose buffers are not finite counts for nothing, and takes over the others' mean.

    Args:
        named: names and buffers.
    """

    def __init__(self, named: Iterable[tuple[str, Tensor]]) -> None:
        buffers = [buffer for _, buffer in named]
        self._means = [buffer for buffer in buffers if buffer.is_floating_point()]
        self._others = [buffer for buffer in buffers if not buffer.is_floating_point()]

    @torch.no_grad()
    def average(self, wire: Wire, weight: float) -> None:
        """Average them; every worker calls it at the same point.

        Args:
            wire: the workers; all values travel in float32 to every worker.
            weight: of this worker's values.
        """
        if self._means:
            own = torch.cat([b.detach().float().reshape(-1) for b in self._means])
            finite = bool(own.isfinite().all())
            told = weight if finite else 0.0
            row = torch.cat([own if finite else torch.zeros_like(own), own.new_tensor([told])])
            rows = torch.stack(wire.all_gather(row, _STAGE)).double()
            total = rows[:, -1].sum()
            if total > 0:
                mean = (rows[:, -1:] * rows[:, :-1]).sum(0) / total
                _write(mean, self._means)
        if self._others:
            own = torch.cat([b.detach().to(torch.int64).reshape(-1) for b in self._others])
            _write(torch.stack(wire.all_gather(own, _STAGE)).amax(0), self._others)


def _write(values: Tensor, buffers: list[Tensor]) -> None:
    pieces = values.split([buffer.numel() for buffer in buffers])
    for buffer, piece in zip(buffers, pieces, strict=True):
        buffer.copy_(piece.view(buffer.shape))
