"""A DistributedDataParallel communication hook: 1-bit gradients in two lines.

    state = thinwire.OneBitState(cold_start=100)
    ddp_model.register_comm_hook(state, thinwire.onebit_hook)

The same two-stage exchange as ``OneBitSGD`` with the mean gradient in place of the update: both
stages carry gradients, and whatever optimiser the script has runs on every replica. DDP's threads
may not issue collectives from callbacks (gloo matches them by the order of the calls), so the hook
only hands a bucket to one communication thread and returns a future.

DDP rebuilds its buckets after the first iteration. Residuals therefore belong to parameters: the
arithmetic of a group does not depend on the bucket it travels in or on who owns it, and when a
bucket of a new composition appears, owner residuals move to their new owners once, exactly.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import GradBucket
from torch.nn import Parameter

from thinwire.exchange import (
    Fifo,
    Ledger,
    Part,
    State,
    check_counts,
    copy_entry,
    counts_of,
    move_owner_residuals,
    own_wire,
    with_counts,
)
from thinwire.quantize import Axis, Float32Code, StageCodes, stage_codes

_EXACT = StageCodes(Float32Code(), Float32Code())


class OneBitState:
    """Everything the hook keeps between iterations; one for each DDP model.

    Make it on every worker at the same point of the script: it creates a process group.

    Args:
        process_group: DDP's workers; a group of its own over the same ranks is made for the
            communication thread.
        cold_start: iterations exchanged in float32 before the code is used.
        code: what one bit means, "sign" or "rotated"; or "float32".
        bits: bits a value, 1, 2, 4 or 8, for both stages or for each, as ``(1, 4)``.
        error_feedback: carry quantisation errors into the next iteration.
        axis: which unit's weights share levels.
        overrides: codes by parameter name where they differ, such as
            ``{"embed.weight": "float32"}``; needs ``named_parameters``.
        named_parameters: the model's; needed for ``overrides`` and ``state_dict``.
        grad_scaler: the script's ``torch.amp.GradScaler``, if any. Residuals are kept in unscaled
            units, so a change of the loss scale does not touch what is carried.
        timeout: how long a collective may take before it fails.

    Attributes:
        samples: samples in this worker's next minibatch, the weight of its mean gradient; 1
            everywhere gives DDP's plain mean.
        iteration: synchronised backwards so far.
        skipped: iterations in which some worker had a non-finite gradient. The hook then hands
            NaN to every replica, and no residual changes.
        ledger: traffic of this worker so far.

    Raises:
        ValueError: an unknown code, or an override that names no parameter.
        RuntimeError: from backward, where the state was made before the process group.
    """

    def __init__(
        self,
        process_group: dist.ProcessGroup | None = None,
        *,
        cold_start: int = 0,
        code: str = "sign",
        bits: int | tuple[int, int] = 1,
        error_feedback: bool = True,
        axis: Axis = "output",
        overrides: Mapping[str, str] | None = None,
        named_parameters: Iterable[tuple[str, Parameter]] | None = None,
        grad_scaler: torch.amp.GradScaler | None = None,
        timeout: timedelta | None = None,
    ) -> None:
        self.samples: float = 1
        self.iteration = 0
        self.skipped = 0
        self.ledger = Ledger()
        self._cold_start = cold_start
        self._error_feedback, self._axis = error_feedback, axis
        self._codes = stage_codes(code, bits)
        named = [(_plain(name), p) for name, p in named_parameters or ()]
        self._names = {p: name for name, p in named}
        unknown = set(overrides or ()) - set(self._names.values())
        if unknown:
            raise ValueError(
                f"overrides: {sorted(unknown)} are not among named_parameters "
                f"({', '.join(self._names.values()) or 'none were given'})"
            )
        self._overrides = {name: stage_codes(kind) for name, kind in (overrides or {}).items()}
        self._scaler = grad_scaler
        self._process_group = process_group
        self._wire = own_wire(process_group, timeout, self.ledger)
        self._thread = Fifo("thinwire hook")
        self._parts: dict[tuple[int, ...], list[Part]] = {}  # by the parameters' identities
        self._part_of: dict[Parameter, Part] = {}
        self._carries = False  # whether a residual may be other than zero
        self._weight = 1.0  # of this iteration's gradients: samples / loss scale
        self._running: list[Part] = []
        self._finite = True

    # --- called by DDP --------------------------------------------------------------------------

    def hand_over(self, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        """Queue a bucket for exchange; the future holds its buffer, overwritten by the mean."""
        if bucket.index() == 0:
            self._check_world()
            # DDP gives gradients of scale * loss; with the weight n / scale, residuals are in
            # unscaled sums over samples whatever the loss scale is.
            scale = self._scaler.get_scale() if self._scaler is not None else 1.0
            self._weight = self.samples / scale
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        buffer = bucket.buffer()
        job = partial(
            self._exchange,
            cast(list[Parameter], bucket.parameters()),
            bucket.gradients(),
            buffer,
            self._weight,
            first=bucket.index() == 0,
            last=bucket.is_last(),
        )

        def pass_on(done: Future[None]) -> None:
            error = done.exception()
            if error is None:
                future.set_result(buffer)
            else:
                future.set_exception(error)  # type: ignore[arg-type]

        self._thread.submit(job).add_done_callback(pass_on)
        return future

    def _check_world(self) -> None:
        world = dist.get_world_size(self._process_group)
        if world != self._wire.world:
            raise RuntimeError(
                f"this OneBitState was made for {self._wire.world} worker(s), DDP has {world}: "
                "make it after torch.distributed.init_process_group"
            )

    # --- on the communication thread ------------------------------------------------------------

    @torch.no_grad()
    def _exchange(
        self,
        parameters: Sequence[Parameter],
        gradients: Sequence[Tensor],
        buffer: Tensor,
        weight: float,
        *,
        first: bool,
        last: bool,
    ) -> None:
        """Both stages of one bucket: its gradients become their mean over all samples."""
        if first:
            self._running, self._finite = [], True
        gradient_of = dict(zip(parameters, gradients, strict=True))
        for part in self._parts_of(parameters):
            self._running.append(part)
            own = [gradient_of[p] for p in part.parameters]
            whole = len(own) == len(gradients) and self._axis == "output"
            self._exchange_part(part, own, buffer if whole else None, weight)
        if last:
            self._end_iteration()

    def _exchange_part(
        self, part: Part, gradients: list[Tensor], buffer: Tensor | None, weight: float
    ) -> None:
        exact = self.iteration < self._cold_start
        codes = _EXACT if exact else part.codes
        self._carries |= not exact
        part.collect(gradients, hold=self._carries, copy=buffer is None)
        headers = part.exchange.reduce(
            codes.gradients, weight, self._wire, "gradients", gradient=buffer
        )
        if any(header.nonfinite_group >= 0 for header in headers):
            self._finite = False
            for gradient in gradients:
                gradient.fill_(torch.nan)  # a GradScaler then skips on all workers
            return
        part.hold_owner(self._carries)
        direct = buffer is not None and buffer.dtype == torch.float32
        out = buffer if direct and buffer is not None else torch.empty(part.space.values)
        samples = sum(header.samples for header in headers)
        part.exchange.distribute(codes.updates, out, self._wire, "updates", divisor=samples)
        if not direct:
            torch._foreach_copy_(gradients, part.space.views(out))

    def _end_iteration(self) -> None:
        """All workers saw the same headers, so all keep or drop the iteration together."""
        for part in self._running:
            part.finish(keep=self._finite)
        self.skipped += not self._finite
        self.iteration += 1

    def _parts_of(self, parameters: Sequence[Parameter]) -> list[Part]:
        """The parts of a bucket; those of a new composition take over what others carried."""
        key = tuple(id(p) for p in parameters)
        if key not in self._parts:
            by_code: dict[str, list[Parameter]] = {}
            for parameter in parameters:
                by_code.setdefault(self._codes_of(parameter).name, []).append(parameter)
            parts = [self._make_part(members) for members in by_code.values()]
            for part in parts:
                self._take_over(part)
            # A composition that lost a parameter to another must take it back when it returns.
            self._parts = {k: kept for k, kept in self._parts.items() if self._current(kept)}
            self._parts[key] = parts
        return self._parts[key]

    def _codes_of(self, parameter: Parameter) -> StageCodes:
        return self._overrides.get(self._names.get(parameter, ""), self._codes)

    def _make_part(self, parameters: list[Parameter]) -> Part:
        return Part(
            parameters,
            self._codes_of(parameters[0]),
            axis=self._axis,
            rank=self._wire.rank,
            world=self._wire.world,
            error_feedback=self._error_feedback,
        )

    def _take_over(self, part: Part) -> None:
        before = {p: self._part_of[p] for p in part.parameters if p in self._part_of}
        for parameter in part.parameters:
            self._part_of[parameter] = part
        if not (before and self._carries):
            return
        for parameter, old in before.items():
            part.residual_of(parameter).copy_(old.residual_of(parameter))
        move_owner_residuals(before, part, self._wire)

    def _current(self, parts: list[Part]) -> bool:
        return all(self._part_of[p] is part for part in parts for p in part.parameters)

    # --- checkpoints ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What this worker carries, by parameter name. Take it between iterations.

        Returns:
            The form of ``exchange.state``: "state" has for each parameter "residual" (of its
            shape) and, where this worker owns some of its values, "owned" and "owner_residual";
            "thinwire" the counts. Tensors are the live buffers.

        Raises:
            ValueError: the state was made without ``named_parameters``.
        """
        if any(p not in self._names for part in self._part_of.values() for p in part.parameters):
            raise ValueError(
                "state_dict: names are not known; make the state with "
                "OneBitState(named_parameters=model.named_parameters())"
            )
        parts = list(dict.fromkeys(self._part_of.values()))
        carried = {part: part.state() for part in parts}
        entries = {self._names[p]: carried[part][p] for p, part in self._part_of.items()}
        counts = {
            "rank": self._wire.rank,
            "world": self._wire.world,
            "axis": self._axis,
            "iteration": self.iteration,
            "skipped": self.skipped,
            "carries": self._carries,
            "buckets": [[self._names[p] for p in part.parameters] for part in parts],
            "bucket_of": {self._names[p]: parts.index(q) for p, q in self._part_of.items()},
            "ledger": self.ledger.state_dict(),
        }
        return with_counts({"state": entries}, counts)

    def load_state_dict(self, state_dict: State) -> None:
        """Continue from this worker's ``state_dict``, at any time between iterations.

        ``thinwire.reshard`` makes it from the states of another number of workers.

        Raises:
            ValueError: the state of another worker, of another number of workers, with another
                axis, or of other parameters.
        """
        counts = counts_of(state_dict)
        check_counts(counts, rank=self._wire.rank, world=self._wire.world, axis=self._axis)
        parameter_of = {name: p for p, name in self._names.items()}
        names = {name for bucket in counts["buckets"] for name in bucket}
        if names - set(parameter_of):
            raise ValueError(
                f"state_dict: it has {sorted(names - set(parameter_of))}, which are not among "
                "named_parameters"
            )
        missing = sorted(counts["bucket_of"].keys() - state_dict["state"].keys())
        if missing:
            raise ValueError(
                f"state_dict: it has no tensors of {missing}. torch.distributed.checkpoint.load "
                "fills only those that are there: read them with thinwire.saved_states"
            )
        # DDP's buckets take over from these parts as they come.
        parts = [self._make_part([parameter_of[n] for n in names]) for names in counts["buckets"]]
        self._parts = {}
        self._part_of = {parameter_of[n]: parts[i] for n, i in counts["bucket_of"].items()}
        targets = {part: part.state() for part in parts}
        for parameter, part in self._part_of.items():
            name = self._names[parameter]
            copy_entry(name, state_dict["state"][name], targets[part][parameter])
        self.iteration, self.skipped = counts["iteration"], counts["skipped"]
        self._carries = counts["carries"]
        self.ledger.load_state_dict(counts["ledger"])


def onebit_hook(state: OneBitState, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """The hook to register with ``DistributedDataParallel.register_comm_hook``.

    Args:
        state: made on every worker.
        bucket: DDP's.

    Returns:
        A future of the bucket's buffer, holding the mean over all samples.
    """
    return state.hand_over(bucket)


def _plain(name: str) -> str:
    """A parameter's name without what torch.compile and DistributedDataParallel put before it."""
    return name.replace("_orig_mod.", "").removeprefix("module.")
