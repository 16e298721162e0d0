"""A DistributedDataParallel communication hook: gradients of 1 to 8 bits in two lines.

    state = thinwire.OneBitState()
    ddp_model.register_comm_hook(state, thinwire.onebit_hook)

The same two-stage exchange as ``OneBitSGD`` with the mean gradient in place of the update: both
stages carry gradients, and whatever optimiser the script has runs on every replica. DDP's threads
may not issue collectives from callbacks (gloo matches them by the order of the calls), so the hook
only hands a bucket to one communication thread and returns a future.

DDP rebuilds its buckets after the first iteration. Residuals therefore belong to parameters: the
arithmetic of a group does not depend on the bucket it travels in or on who owns it, and when a
bucket of a new composition appears, owner residuals move to their new owners once, exactly.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Any, Self, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import GradBucket
from torch.nn import Parameter

from thinwire.exchange import (
    DROP_IN_CODE,
    EXACT,
    SERIAL,
    Codes,
    ExchangeConfig,
    Fifo,
    Ledger,
    Membership,
    ParameterBucket,
    SampleCount,
    State,
    Verdict,
    as_real,
    check_alike,
    check_counts,
    check_gradient,
    check_group_exists,
    check_parameters,
    copy_entry,
    counts_of,
    joint,
    own_wire,
    with_counts,
)
from thinwire.exchange.former import accepts_former_options
from thinwire.quantize import Axis, StageCodes, stage_codes


class OneBitState:
    """Everything the hook keeps between iterations; one for each DDP model.

    Make it on every worker at the same point of the script: it creates a process group. It is a
    context manager, which closes it.

    Args:
        process_group: DDP's workers; a group of its own over the same ranks is made for the
            communication thread.
        code: see ``ExchangeConfig``, as for the other options that are not explained here. "4-bit"
            is close to float32 whatever the script's optimiser is; "sign" sends a quarter of that,
            and is for short momentum (``docs/codes.md``).
        error_feedback: see there.
        axis: see there.
        start: see there; "serial" cannot be had, since DDP trains on every worker.
        start_steps: see there; counted in iterations that were exchanged.
        start_samples: see there; counted in ``samples``, which the script must then set.
        overrides: codes by parameter name where they differ, such as
            ``{"embed.weight": "float32"}``; needs ``named_parameters``.
        named_parameters: the model's; needed for ``overrides`` and ``state_dict``.
        grad_scaler: the script's ``torch.amp.GradScaler``, if any. Residuals are kept in unscaled
            units, so a change of the loss scale does not touch what is carried.
        timeout: see there.
        transport: see there.

    Attributes:
        samples: samples in this worker's next minibatch, the weight of its mean gradient: a
            number from 0 to 2**53. Set it before backward; without it every worker counts 1, which
            gives DDP's plain mean.
        iteration: synchronised backwards so far.
        skipped: iterations in which some worker had a non-finite gradient. The hook then hands
            NaN to every replica, and no residual changes.
        ledger: traffic of this worker so far.

    Raises:
        ValueError: an option out of range, or an override that names no parameter; from backward,
            ``samples`` was never set although ``start_samples`` counts them.
        RuntimeError: from backward, where the state was made before the process group, or closed.
    """

    @accepts_former_options("steps")
    def __init__(
        self,
        process_group: dist.ProcessGroup | None = None,
        *,
        code: Codes = DROP_IN_CODE,
        error_feedback: bool | float = ExchangeConfig.error_feedback,
        axis: Axis = ExchangeConfig.axis,
        start: Codes = ExchangeConfig.start,
        start_steps: int = ExchangeConfig.start_steps,
        start_samples: int = ExchangeConfig.start_samples,
        overrides: Mapping[str, Codes] | None = None,
        named_parameters: Iterable[tuple[str, Parameter]] | None = None,
        grad_scaler: torch.amp.GradScaler | None = None,
        timeout: timedelta | None = ExchangeConfig.timeout,
        transport: str = ExchangeConfig.transport,
    ) -> None:
        self._config = ExchangeConfig(
            code=code,
            error_feedback=error_feedback,
            axis=axis,
            start=start,
            start_steps=start_steps,
            start_samples=start_samples,
            timeout=timeout,
            transport=transport,
        )
        if start == SERIAL:
            raise ValueError(
                "start: expected a code, got 'serial': DistributedDataParallel trains on every "
                "worker; thinwire.OneBitSGD has a serial start"
            )
        self._count = SampleCount()
        self._closed = False
        self.iteration = 0
        self.skipped = 0
        self.ledger = Ledger()
        named = [(_plain(name), p) for name, p in named_parameters or ()]
        check_parameters(named)
        self._names = {p: name for name, p in named}
        unknown = set(overrides or ()) - set(self._names.values())
        if unknown:
            raise ValueError(
                f"overrides: {sorted(unknown)} are not among named_parameters "
                f"({', '.join(self._names.values()) or 'none were given'})"
            )
        self._codes, self._start_codes = stage_codes(code), self._config.start_codes
        self._overrides = {
            name: stage_codes(own, f"overrides[{name!r}]")
            for name, own in (overrides or {}).items()
        }
        self._scaler = grad_scaler
        self._process_group = process_group
        self._wire = own_wire(process_group, timeout, self.ledger, transport)
        self._thread = Fifo("thinwire hook")
        check_group_exists(self._wire, "OneBitState")
        facts = {
            "the version of thinwire": version("thinwire"),
            "code": _names_of(self._codes),
            "overrides": {name: _names_of(codes) for name, codes in self._overrides.items()},
            "error_feedback": float(error_feedback),
            "axis": axis,
            "start": _names_of(self._start_codes),
            "start_steps": start_steps,
            "start_samples": start_samples,
            "grad_scaler": grad_scaler is not None,
            "the list of parameters": [name for name, _ in named],
            "the list of their shapes": [[*parameter.shape] for _, parameter in named],
        }
        check_alike(facts, self._wire, "OneBitState")
        self._members = Membership(self._make_bucket, self._codes_of, self._wire)
        self._carries = False  # whether a residual may be other than zero
        self._samples_seen = 0.0
        self._weight = 1.0  # of this iteration's gradients: samples / loss scale
        self._running: list[tuple[ParameterBucket, Verdict]] = []
        self._to_keep = False  # whether the iteration in _running has ended, and counts

    @property
    def samples(self) -> float:
        """Samples in this worker's next minibatch; see above."""
        return self._count.value

    @samples.setter
    def samples(self, value: float) -> None:
        self._count.set(value)

    def discard(self) -> None:
        """Take back the last backward, whose gradients the script does not apply.

        What is carried is then what it was before; the script's own gradients are left alone. Call
        it on every worker, before the next backward and before ``state_dict``; without it the next
        gradients also bring what quantising those left out. ``iteration`` counts the backward all
        the same.
        """
        self._to_keep = False
        self._settle()

    def close(self) -> None:
        """End the communication thread; again does nothing. ``state_dict`` can still be taken."""
        self._end(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._end(wait=error_type is None)  # where one worker fails, others may not answer

    def _end(self, *, wait: bool) -> None:
        if not self._closed:
            self._closed = True
            self._thread.submit(self._wire.close)  # after whatever is under way
            self._thread.close(wait=wait)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Copied":
        """What a copy of the model has in place of this, since its reducer has no hook."""
        return _Copied()

    def __reduce__(self) -> tuple[type["_Copied"], tuple[()]]:
        """Let a model that has the hook be pickled; the state itself is not."""
        warnings.warn(
            "OneBitState is not pickled, nor is what it carries: store its state_dict(), and "
            "register a new state with the model that is loaded",
            stacklevel=2,
        )
        return _Copied, ()

    # --- called by DDP --------------------------------------------------------------------------

    def hand_over(self, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        """Queue a bucket for exchange; the future holds its buffer, overwritten by the mean."""
        if self._closed:
            raise RuntimeError(
                "this OneBitState is closed: wrap the model in a new DistributedDataParallel, and "
                "register the hook with a new OneBitState"
            )
        if isinstance(bucket, tuple):
            raise RuntimeError(
                "onebit_hook: expected one of DistributedDataParallel's buckets, got a gradient by "
                "itself, which is what its Python reducer hands over: set "
                'torch._dynamo.config.optimize_ddp = "ddp_optimizer" before the model is wrapped'
            )
        if bucket.index() == 0:
            self._check_world()
            # DDP gives gradients of scale * loss; with the weight n / scale, residuals are in
            # unscaled sums over samples whatever the loss scale is.
            scale = self._scaler.get_scale() if self._scaler is not None else 1.0
            start = self._config.start_samples
            needs = f"start_samples={start}" if start else None
            self._weight = self._count.needed(needs, "state") / scale
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        buffer = bucket.buffer()
        job = partial(
            self._exchange,
            cast(list[Parameter], bucket.parameters()),
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
        buffer: Tensor,
        weight: float,
        *,
        first: bool,
        last: bool,
    ) -> None:
        """Both stages of one of DDP's buckets: its gradients become their mean over all samples."""
        if first:
            self._settle()
        check_gradient(self._describe(parameters[0]), buffer)  # a sparse one has a bucket to itself
        flat = as_real(buffer).view(-1)
        gradient_of = dict(zip(parameters, _gradients(flat, parameters), strict=True))
        in_order = _in_wire_order(list(gradient_of.values()), self._config.axis)
        for bucket in self._members.buckets_for(parameters, carries=self._carries):
            own = [gradient_of[cast(Parameter, p)] for p in bucket.parameters]
            whole = in_order and len(own) == len(parameters)
            verdict = self._exchange_bucket(bucket, own, flat if whole else None, weight)
            self._running.append((bucket, verdict))
        if last:
            self._end_iteration()

    def _exchange_bucket(
        self,
        bucket: ParameterBucket,
        gradients: list[Tensor],
        buffer: Tensor | None,
        weight: float,
    ) -> Verdict:
        """Exchange ``gradients``, which ``buffer`` holds end to end where it is given.

        A parameter without gradient, on all workers, is held (``hold_idle``): nothing is sent for
        it and its residual stays, since DDP throws away what a hook returns for it.
        """
        starting = self._config.in_start(self.iteration, self._samples_seen)
        codes = self._start_codes if starting else bucket.codes
        self._carries |= codes.name != EXACT.name
        if buffer is None:
            bucket.space.collect(gradients, bucket.scratch)
        if self._carries:
            bucket.hold_idle(gradients)
        verdict = bucket.reduce(self._wire, weight, codes=codes, gradient=buffer)
        if not verdict.finite:
            for gradient in gradients:
                gradient.fill_(torch.nan)  # a GradScaler then skips on all workers
            return verdict
        if self._carries:
            bucket.hold_idle_owned()
        if buffer is not None and buffer.dtype == torch.float32:
            bucket.distribute(self._wire, buffer, codes=codes, divisor=verdict.samples)
        else:
            mean = bucket.scratch.new_empty(bucket.space.values)
            bucket.distribute(self._wire, mean, codes=codes, divisor=verdict.samples)
            torch._foreach_copy_(gradients, bucket.space.views(mean))
        return verdict

    def _end_iteration(self) -> None:
        """All workers saw the same headers, so all keep or drop the iteration together."""
        verdict = joint([verdict for _, verdict in self._running])
        self._to_keep = verdict.finite
        if not verdict.finite:
            self._settle()
        self._samples_seen += verdict.samples if verdict.finite else 0.0
        self.skipped += not verdict.finite
        self.iteration += 1

    def _settle(self) -> None:
        """Keep the residuals of an iteration that counts; leave them as they were where not."""
        for bucket, _ in self._running:
            if self._to_keep:
                bucket.commit()
            bucket.drop()
        self._running, self._to_keep = [], False

    def _codes_of(self, parameter: Tensor) -> StageCodes:
        return self._overrides.get(self._names.get(cast(Parameter, parameter), ""), self._codes)

    def _make_bucket(self, parameters: Sequence[Tensor]) -> ParameterBucket:
        named = [(self._describe(cast(Parameter, p)), p) for p in parameters]
        check_parameters(named)
        return ParameterBucket(
            named,
            self._codes_of(parameters[0]),
            self._wire,
            axis=self._config.axis,
            error_feedback=self._config.error_feedback,
        )

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
        self._settle()
        if self._members.bucket_of.keys() - self._names.keys():
            raise ValueError(
                "state_dict: names are not known; make the state with "
                "OneBitState(named_parameters=model.named_parameters())"
            )
        buckets, bucket_of = self._members.buckets(), self._members.bucket_of
        entries = {self._name(p): entry for p, entry in self._members.entries().items()}
        counts = {
            "rank": self._wire.rank,
            "world": self._wire.world,
            "axis": self._config.axis,
            "iteration": self.iteration,
            "skipped": self.skipped,
            "samples_seen": self._samples_seen,
            "carries": self._carries,
            "buckets": [[self._name(p) for p in bucket.parameters] for bucket in buckets],
            "bucket_of": {self._name(p): buckets.index(b) for p, b in bucket_of.items()},
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
        self._settle()
        counts = counts_of(state_dict)
        check_counts(counts, rank=self._wire.rank, world=self._wire.world, axis=self._config.axis)
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
        self._members.restore(
            [[parameter_of[name] for name in bucket] for bucket in counts["buckets"]],
            {parameter_of[name]: number for name, number in counts["bucket_of"].items()},
        )
        for parameter, target in self._members.entries().items():
            name = self._name(parameter)
            copy_entry(name, state_dict["state"][name], target)
        self.iteration, self.skipped = counts["iteration"], counts["skipped"]
        self._samples_seen = counts.get("samples_seen", 0.0)  # version 0.1 did not count them
        self._carries = counts["carries"]
        self.ledger.load_state_dict(counts["ledger"])

    def _describe(self, parameter: Parameter) -> str:
        """Return a parameter's name where it is known, else its shape."""
        return self._names.get(parameter, f"a parameter of shape {[*parameter.shape]}")

    def _name(self, parameter: Tensor) -> str:
        return self._names[cast(Parameter, parameter)]


class _Copied:
    """What a copied or unpickled model holds in place of its hook's state; of no use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(
            "OneBitState: this is what copying or pickling left of one. Make a new OneBitState, "
            "load the state_dict() of the old one into it, and register it with the model"
        )


def onebit_hook(state: OneBitState, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """The hook to register with ``DistributedDataParallel.register_comm_hook``.

    Args:
        state: made on every worker.
        bucket: DDP's.

    Returns:
        A future of the bucket's buffer, holding the mean over all samples.
    """
    if not isinstance(state, (OneBitState, _Copied)):
        raise TypeError(
            f"state: expected a thinwire.OneBitState, got {type(state).__name__}: write "
            "thinwire.compress(ddp_model), or register_comm_hook(thinwire.OneBitState(), "
            "thinwire.onebit_hook)"
        )
    return state.hand_over(bucket)


def _names_of(codes: StageCodes) -> tuple[str, str]:
    return codes.gradients.name, codes.updates.name


def _gradients(flat: Tensor, parameters: Sequence[Parameter]) -> list[Tensor]:
    """Views into a buffer of DDP's, ([values]), as real numbers in the parameters' shapes.

    DDP lays gradients out as their parameters are in memory, which may be channels last, where that
    has no gaps. ``GradBucket.gradients`` takes them to be contiguous and real.
    """
    views, start = list[Tensor](), 0
    for parameter in parameters:
        like = as_real(parameter.detach())
        run = flat[start : start + like.numel()]
        dense = torch.ops.aten.is_non_overlapping_and_dense(like)
        views.append(run.as_strided(like.shape, like.stride()) if dense else run.view(like.shape))
        start += like.numel()
    return views


def _in_wire_order(gradients: Sequence[Tensor], axis: Axis) -> bool:
    """Whether DDP's buffer can be encoded as it is; codes do not take float64."""
    taken = (torch.float32, torch.bfloat16, torch.float16)
    return axis == "output" and all(g.is_contiguous() and g.dtype in taken for g in gradients)


def _plain(name: str) -> str:
    """A parameter's name without what torch.compile and DistributedDataParallel put before it."""
    return name.replace("_orig_mod.", "").removeprefix("module.")
