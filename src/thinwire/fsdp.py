"""1-bit reduce-scatter for FSDP2: stage 1 of the exchange, with the shard as the stripe.

    fully_shard(model)
    model.set_custom_reduce_scatter(thinwire.OneBitReduceScatter(model))

Fully sharded training has no second stage to quantise: the owner of a shard keeps the exact sum and
the optimiser runs on it. Gradients cost 1/30 of what they did; gathering parameters costs what it
always does.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from thinwire.exchange import Ledger, Stripe, TwoStage, Wire
from thinwire.quantize import Columns, column_lengths, named_code


class OneBitReduceScatter:
    """The communication object of one FSDP2 module; each ``fully_shard``-ed module has its own.

    FSDP calls it in the order of backward on every worker. It is synchronous: nothing else may use
    the module's process group meanwhile.

    If a worker's gradient is not finite every worker gets NaN for this module and its residual
    stays as it was; modules exchanged in the same backward keep theirs, so what they released in a
    step that the script then skips is not sent again.

    Args:
        module: the module; it tells where rows begin, so that columns follow them.
        code: "sign" or another of ``quantize.named_code``'s.
        error_feedback: carry the quantisation error into the next step.

    Attributes:
        ledger: traffic of this worker so far.

    Raises:
        TypeError: the module was not fully_shard-ed.
        ValueError: an unknown code; from a call, an unsupported reduction, or gradients that do not
            have the module's size.
    """

    def __init__(
        self, module: nn.Module, *, code: str = "sign", error_feedback: bool = True
    ) -> None:
        if not isinstance(module, FSDPModule):
            raise TypeError("module: call fully_shard(module) first")
        self.ledger = Ledger()
        self._shapes = [p.shape for p in _own_parameters(module) if p.requires_grad]
        self._code = named_code(code)
        self._error_feedback = error_feedback
        self._exchange: TwoStage | None = None

    def allocate(
        self, size: Sequence[int | torch.SymInt], *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """Memory for FSDP's buffers."""
        return torch.empty(*size, dtype=dtype, device=device)

    @torch.no_grad()
    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        op: Any,
        async_op: bool = False,
    ) -> None:
        """Sum (or average) shards over workers.

        Args:
            output_tensor: ``[n / W]``, this worker's shard of the result.
            input_tensor: ``[n]``, the shards of this worker's gradient in rank order.
            group: the workers.
            op: ReduceOp.SUM or AVG.
            async_op: must be False.
        """
        if op not in (dist.ReduceOp.SUM, dist.ReduceOp.AVG) or async_op:
            raise ValueError(f"expected a synchronous SUM or AVG, got {op}, async_op={async_op}")
        wire = Wire(group, self.ledger)
        exchange = self._exchange_for(input_tensor, wire)
        exchange.worker.values.copy_(input_tensor)
        headers = exchange.reduce(self._code, 1.0, wire, "gradients")
        if any(header.nonfinite_group >= 0 for header in headers):
            output_tensor.fill_(torch.nan)
            return
        exchange.worker.commit()
        total = exchange.owner.values
        output_tensor.copy_(total / wire.world if op == dist.ReduceOp.AVG else total)

    @property
    def residual(self) -> Tensor:
        """float32 ``[n]``: what this worker carries, in the layout of ``input_tensor``."""
        return self._exchange.worker.residual if self._exchange else torch.empty(0)

    def load_residual(self, residual: Tensor) -> None:
        """Continue from what ``residual`` gave in a job with as many workers.

        Raises:
            RuntimeError: before the first backward, when sizes are not known.
        """
        if self._exchange is None:
            raise RuntimeError("load_residual: run one backward first")
        self._exchange.worker.residual.copy_(residual)

    def _exchange_for(self, gradient: Tensor, wire: Wire) -> TwoStage:
        if self._exchange is None:
            shards = [list(self._shard_lengths(rank, wire.world)) for rank in range(wire.world)]
            sizes = [sum(lengths) for lengths in shards]
            if len(set(sizes)) != 1 or sum(sizes) != gradient.numel():
                raise ValueError(
                    f"expected {sum(sizes)} gradient values for parameters of shapes "
                    f"{[[*shape] for shape in self._shapes]}, got {gradient.numel()}"
                )
            self._exchange = TwoStage(
                Columns.from_lengths(itertools.chain.from_iterable(shards)),
                wire.rank,
                wire.world,
                error_feedback=self._error_feedback,
                stripes=_stripes(shards),
                device=gradient.device,
            )
        return self._exchange

    def _shard_lengths(self, rank: int, world: int) -> Iterator[int]:
        """Group lengths of one worker's shard: each parameter's rows, then their padding."""
        for shape in self._shapes:
            rows, row = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
            share = -(-rows // world)
            own = max(0, min(rows - rank * share, share))
            yield from column_lengths((own, *shape[1:]))
            if own < share:
                yield (share - own) * row


def _stripes(shards: Sequence[Sequence[int]]) -> list[Stripe]:
    """One stripe for each worker's shard."""
    stripes = []
    start = first_group = 0
    for lengths in shards:
        columns = Columns.from_lengths(lengths)
        stripes.append(Stripe(start, start + columns.values, first_group, columns))
        start += columns.values
        first_group += columns.groups
    return stripes


def _own_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters this module's FSDP group manages: not those of nested FSDP modules."""
    seen: set[nn.Parameter] = set()
    pending = [module]
    while pending:
        current = pending.pop()
        for parameter in current.parameters(recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                yield parameter
        children = [child for child in current.children() if not isinstance(child, FSDPModule)]
        pending += reversed(children)
