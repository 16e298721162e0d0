"""Reduce-scatter in few bits for FSDP2: stage 1 of the exchange, with the shard as the stripe.

    fully_shard(model)
    state = thinwire.compress(model)

Fully sharded training has no second stage to quantise: the owner of a shard keeps the exact sum and
the optimiser runs on it. Gradients cost an eighth of what they did, and a thirtieth with
``code="sign"``; gathering parameters costs what it always does.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from thinwire.exchange import (
    DROP_IN_CODE,
    EXACT,
    REAL,
    Bucket,
    Codes,
    ExchangeConfig,
    Ledger,
    State,
    Wire,
    check_alike,
    check_counts,
    check_parameters,
    copy_entry,
    counts_of,
    refuse_copy,
    shared_wire,
    with_counts,
)
from thinwire.fsdp.backward import Backward, current_backward
from thinwire.fsdp.layout import ShardLayout
from thinwire.quantize import StageCodes, stage_codes


class OneBitReduceScatter:
    """The communication object of one FSDP2 module; each ``fully_shard``-ed module has its own.

    FSDP calls it in the order of backward on every worker. It is synchronous: nothing else may use
    the module's process group meanwhile.

    A backward is exchanged as a whole. If any worker's gradient of any module is not finite, every
    worker gets NaN for that module, and when backward ends the residuals of *all* modules are what
    they were before it, also of those exchanged earlier. A script that skips the optimiser's step,
    as it must, so loses nothing and repeats nothing. One that accumulates gradients should exchange
    once a step (``set_requires_gradient_sync``), or it loses what earlier backwards of a skipped
    step released.

    Args:
        module: the module; it tells where rows begin, so that columns follow them.
        code: how gradients travel; see ``ExchangeConfig``. There is one stage, hence one code.
        error_feedback: see ``ExchangeConfig``.
        grad_scaler: the script's ``torch.amp.GradScaler``, if any. Residuals are kept in unscaled
            units, so a change of the loss scale does not touch what is carried.

    Attributes:
        ledger: traffic of this worker so far.
        names: of the module's own parameters, in the order in which they travel.

    Raises:
        TypeError: the module was not fully_shard-ed, or a parameter is complex or will have a
            sparse gradient, naming it.
        ValueError: a module without parameters of its own, an unknown code, or a parameter that
            is not sharded by rows; from a call, an unsupported reduction, or gradients that do
            not have the module's size.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        code: Codes = DROP_IN_CODE,
        error_feedback: bool | float = ExchangeConfig.error_feedback,
        grad_scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        if not isinstance(module, FSDPModule):
            raise TypeError("module: call fully_shard(module) first")
        named = [(name, p) for name, p in own_parameters(module) if p.requires_grad]
        if not named:
            raise ValueError(
                "module: it has no parameters of its own to train, so nothing of it would be "
                "exchanged; thinwire.compress(model) takes every module that has"
            )
        check_parameters(named, dtypes=REAL)
        _check_embeddings(module)
        self.ledger = Ledger()
        self.names = [name for name, _ in named]
        self._parameters = [p for _, p in named]
        self._rank, self._world = _place(named)
        self._layout = ShardLayout([p.shape for p in self._parameters], self._world)
        config = ExchangeConfig(code=code, error_feedback=error_feedback)
        self._codes = StageCodes(stage_codes(config.code).gradients, EXACT.updates)
        self._error_feedback = config.error_feedback
        self._scaler = grad_scaler
        self._code = stage_codes(code).gradients.name
        self._last: Backward | None = None  # the backward whose exchange was the last here
        self._compared = False  # whether all workers were given the same

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
        if input_tensor.numel() != self._layout.values:
            raise ValueError(
                f"expected {self._layout.values} gradient values for parameters of shapes "
                f"{[[*shape] for shape in self._layout.shapes]}, got {input_tensor.numel()}"
            )
        wire = shared_wire(group, self.ledger)
        self._compare(wire)
        running = current_backward()
        backward = running or Backward()
        weight = 1.0 / self._scaler.get_scale() if self._scaler is not None else 1.0
        bucket = self._bucket
        if self._last is not backward:
            self._keep()
        self._last = backward
        backward.begin(bucket)
        bucket.scratch.copy_(input_tensor)
        verdict = bucket.reduce(wire, weight)
        backward.note(verdict)
        if verdict.finite:
            divisor = self._world * weight if op == dist.ReduceOp.AVG else weight
            output_tensor.copy_(bucket.sum.div_(divisor))
        else:
            output_tensor.fill_(torch.nan)
        if running is None:
            backward.end()

    def discard(self) -> None:
        """Take back the last backward, whose gradients the script does not apply.

        What is carried, for all modules of it, is then what it was before. Call it on every worker,
        before the next backward and before ``state_dict``.
        """
        if self._last is not None:
            self._last.drop()

    def _keep(self) -> None:
        if self._last is not None:
            self._last.keep()
            self._last = None

    def _compare(self, wire: Wire) -> None:
        """Before the first exchange, refuse workers that were given something else."""
        if not self._compared:
            facts = {
                "code": self._code,
                "error_feedback": float(self._error_feedback),
                "grad_scaler": self._scaler is not None,
                "the list of parameters": self.names,
                "the list of their shapes": [[*shape] for shape in self._layout.shapes],
                "the list of their dtypes": [p.dtype for p in self._parameters],
            }
            check_alike(facts, wire, type(self).__name__)
            self._compared = True

    @cached_property
    def _bucket(self) -> Bucket:
        # Made late, since the model may have been made on "meta".
        return Bucket(
            self.names,
            self._layout,
            self._codes,
            self._rank,
            self._world,
            error_feedback=self._error_feedback,
            device=self._parameters[0].device,
            stripes=self._layout.stripes,
        )

    @property
    def residual(self) -> Tensor:
        """float32 ``[n]``: what this worker carries, in the layout of ``input_tensor``."""
        self._keep()
        return self._bucket.stages.worker.residual

    def __getstate__(self) -> dict[str, Any]:
        """Refuse to be copied or pickled."""
        refuse_copy(self)

    def state_dict(self) -> dict[str, Any]:
        """What this worker carries, by parameter. Take it between backwards.

        Returns:
            The form of ``exchange.state``: "state" has for each parameter of the module, by its
            name in the module, a copy of this worker's "residual" of the whole parameter;
            "thinwire" the counts. ``thinwire.reshard`` adapts it to other numbers of workers.
        """
        whole = self._layout.unpack(self.residual)
        counts = {"rank": self._rank, "world": self._world, "ledger": self.ledger.state_dict()}
        entries = {name: {"residual": v} for name, v in zip(self.names, whole, strict=True)}
        return with_counts({"state": entries}, counts)

    def load_state_dict(self, state_dict: State) -> None:
        """Continue from this worker's ``state_dict``; at any time between backwards.

        Raises:
            ValueError: the state of another worker, of another number of workers, or of other
                parameters.
        """
        counts = counts_of(state_dict)
        check_counts(counts, rank=self._rank, world=self._world)
        whole = self._layout.unpack(self.residual)
        for name, target in zip(self.names, whole, strict=True):
            copy_entry(name, state_dict["state"].get(name, {}), {"residual": target})
        self._layout.pack(whole, self.residual)
        self.ledger.load_state_dict(counts["ledger"])


def own_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield what this module's FSDP group manages: names and parameters, not of nested ones."""
    seen: set[nn.Parameter] = set()
    pending = [("", module)]
    while pending:
        prefix, current = pending.pop()
        for name, parameter in current.named_parameters(recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                yield prefix + name, parameter
        children = [
            (f"{prefix}{name}.", child)
            for name, child in current.named_children()
            if not isinstance(child, FSDPModule)
        ]
        pending += reversed(children)


def _check_embeddings(module: nn.Module) -> None:
    """Raise TypeError if a parameter will have a sparse gradient, which FSDP cannot scatter."""
    for name, child in module.named_modules():
        if isinstance(child, (nn.Embedding, nn.EmbeddingBag)) and child.sparse:
            raise TypeError(
                f"{name}.weight: expected a dense gradient, got sparse=True: make the module with "
                "sparse=False"
            )


def _place(named: Sequence[tuple[str, nn.Parameter]]) -> tuple[int, int]:
    """This worker's rank, and the number of workers, in the dimension FSDP shards over."""
    place = 0, 1
    for name, parameter in named:
        if not isinstance(parameter, DTensor):
            raise ValueError(f"{name}: expected a sharded parameter, got {type(parameter)}")
        dims = [i for i, p in enumerate(parameter.placements) if not p.is_replicate()]
        if len(dims) != 1 or not parameter.placements[dims[0]].is_shard(0):
            raise ValueError(
                f"{name}: expected it to be sharded by rows, got {parameter.placements}"
            )
        mesh = parameter.device_mesh
        place = mesh.get_local_rank(dims[0]), mesh.size(dims[0])
    return place
