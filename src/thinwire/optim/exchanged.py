"""ExchangedOptimizer: what every optimiser does whose update is computed at the owner.

One step, on every worker [Seide 2014, sections 3 and 4]:

    sub-gradient -> + residual -> quantise -> all_to_all -> sum at the owner
    -> post-process -> + residual -> quantise -> all_gather -> apply

A ``Schedule`` says when this happens; ``at_once`` is the ordinary one. ``OneBitSGD`` and
``OwnerOptimizer`` say what post-processing is.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self, overload

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange import (
    SERIAL,
    Culprit,
    ExchangeConfig,
    Fifo,
    Ledger,
    MadeAlone,
    ParameterBucket,
    SampleCount,
    State,
    Timeline,
    Wire,
    check_alike,
    check_counts,
    check_gradient,
    check_group_exists,
    check_parameters,
    counts_of,
    own_wire,
    refuse_copy,
    share_out,
    with_counts,
    without_counts,
)
from thinwire.exchange.former import without_bits
from thinwire.optim.at_once import AtOnce
from thinwire.optim.bucket_state import bucket_counts, load_worker_state, worker_state
from thinwire.optim.double_buffer import DoubleBuffered, show_pending
from thinwire.optim.engine import Engine, Group
from thinwire.optim.given import check_is_no_model, check_not_wrapped, facts_now, facts_of
from thinwire.optim.gradient_hooks import GradientHooks
from thinwire.optim.group_bucket import GroupBucket, cut_into_buckets
from thinwire.optim.group_codes import live_groups, stored_groups
from thinwire.optim.postprocess import check_number
from thinwire.optim.progress import DENSE, STEADY, Progress, StepReport
from thinwire.optim.schedule import Schedule
from thinwire.optim.serial_start import SerialStart, copy_from_worker_0
from thinwire.optim.shards import agree, grid_counts, lay_out_gradient, model_wire, own_shards
from thinwire.quantize import stage_codes

_CLOSED = "this optimiser is closed: make a new one"


class ExchangedOptimizer(torch.optim.Optimizer):
    """The two-stage exchange as a torch optimiser; subclasses compute the update.

    It is a context manager, which closes it.

    The attributes are explained by ``OneBitSGD``, which has them all.

    Args:
        params: as for any torch optimiser.
        defaults: of the param groups.
        config: how gradients are exchanged.
        process_group: the workers.
        max_skips: see ``OneBitSGD``.
        double_buffer: see ``OneBitSGD``.
        clip_norm: see ``OneBitSGD``.
        after: see ``OneBitSGD``.
    """

    # torch.amp.GradScaler then calls ``step``, whatever it found, and says so in ``found_inf``.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Iterable[Any],
        defaults: dict[str, Any],
        config: ExchangeConfig,
        *,
        process_group: dist.ProcessGroup | None,
        max_skips: int,
        double_buffer: bool,
        clip_norm: float | None,
        after: "ExchangedOptimizer | None",
    ) -> None:
        check_is_no_model(params)
        if clip_norm is not None:
            check_number("clip_norm", clip_norm)
            if clip_norm <= 0:
                raise ValueError(f"clip_norm: expected > 0, got {clip_norm}")
        self._config = config
        self._progress = Progress(config, max_skips)
        self._count = SampleCount()
        self.last_step: StepReport | None = None
        self._double_buffer = double_buffer
        self._ended: str | None = None  # why it cannot be used any more
        self._hooks = GradientHooks(self._gradient_ready, self._lose)
        self._hookless: list[tuple[str, Parameter]] = []  # in buckets, and frozen so far
        self._syncing = True
        self._model: Wire | None = None  # the ranks that hold the parameters' other shards
        if after is None:
            wire = own_wire(process_group, config.timeout, Ledger(), config.transport)
            thread, times = Fifo("thinwire exchange"), Timeline()
        else:
            self.check_group({**defaults, "code": config.code})
            former: Engine = after._hand_over()
            wire, thread, times = former.wire, former.thread, former.times
            self._progress.load(after._progress.counts())
        check_group_exists(wire, type(self).__name__)
        self._made_alone = MadeAlone(type(self).__name__)
        wire.spans = []
        asked = self.post_process, self._agreed, self._facts_now, self._admit
        self._engine: Engine = Engine(wire, thread, times, *asked, clip_norm=clip_norm)
        self._buffered = DoubleBuffered(self._engine)
        self._schedules: dict[str, Schedule] = {
            SERIAL: SerialStart(self._engine),
            DENSE: AtOnce(self._engine, DENSE, config.start_codes),
            STEADY: AtOnce(self._engine, STEADY),
        }
        super().__init__(params, {**defaults, "code": config.code})

    # --- what a subclass says -------------------------------------------------------------------

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise ValueError, naming the option, unless a param group's options make sense."""
        raise NotImplementedError

    def state_names(self, group: dict[str, Any]) -> list[str]:
        """The tensors of the owner's state that a param group's options call for."""
        raise NotImplementedError

    def owns_whole(self, group: dict[str, Any], named: Sequence[tuple[str, Parameter]]) -> bool:
        """Return whether workers own whole parameters of a param group, and not runs of values.

        Raises:
            ValueError: they do, and a parameter cannot be owned so.
        """
        return False

    def first_state(self, group: dict[str, Any], like: Tensor) -> dict[str, Tensor]:
        """Return tensors of the form that the owner of a whole parameter will keep of it.

        Args:
            group: its options.
            like: float32, of the parameter's shape, on its device.
        """
        raise NotImplementedError

    def post_process(
        self, bucket: GroupBucket, group: Group, gradient: Tensor, start: int, samples: float
    ) -> None:
        """Turn a mean gradient into the update that is subtracted, in place.

        Args:
            bucket: whose ``state`` covers the same run of values, or is still empty; or whose
                ``inner`` is of the parameters in it.
            group: the options of its param group when the exchange began.
            gradient: float32 ``[n]``, of the bucket's values from ``start`` on.
            start: index of the first value.
            samples: samples in the minibatch, over all workers.
        """
        raise NotImplementedError

    def facts(self, group: dict[str, Any]) -> dict[str, Any]:
        """What must be the same everywhere for a param group, beside options and parameters."""
        return {
            "max_skips": self._progress.max_skips,
            "double_buffer": self._double_buffer,
            "clip_norm": self._engine.clip_norm,
        }

    # --- construction ---------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch; every worker must add the same group at the same step."""
        self._check_live()
        super().add_param_group(without_bits(param_group))
        group = self.param_groups[-1]
        self.check_group(group)
        self._exchange_from_now_on(group, [p for p in group["params"] if p.requires_grad])

    def _exchange_from_now_on(self, group: Group, parameters: list[Parameter]) -> None:
        """Make buckets for parameters of a group that have none; every worker at the same step."""
        if not parameters:
            return
        self._buffered.counts()  # what is in flight must not meet new buckets
        first = next(i for i, p in enumerate(self._parameters()) if p is group["params"][0])
        names = group.get("param_names") or [
            f"parameter {first + i}" for i in range(len(group["params"]))
        ]
        chosen = set(parameters)
        named = [(n, p) for n, p in zip(names, group["params"], strict=True) if p in chosen]
        check_parameters(named)
        check_not_wrapped(named)
        whole = self.owns_whole(group, named)
        facts = facts_of(group, named, self._config, **self.facts(group))
        check = partial(check_alike, facts, self._engine.wire, type(self).__name__)
        self._engine.run(check)
        self._model = model_wire(named, self._engine.wire, self._model)
        if self._model is not None and self.double_buffer:
            raise ValueError("double_buffer: expected False where parameters are sharded DTensors")
        if self._model is not None and self._engine.clip_norm is not None:
            raise ValueError(
                "clip_norm: expected None where parameters are sharded DTensors, whose norm is "
                "spread over model ranks"
            )
        owner_of = self._share_out(parameters) if whole else None
        for members in cut_into_buckets(named, self._config.bucket_mb * 2**20):
            self._add_bucket(group, members, owner_of)

    def _share_out(self, parameters: list[Parameter]) -> dict[Parameter, int]:
        """An owner for each of some whole parameters, beside what workers own already."""
        cuts = [bucket.exchange.stages.stripes for bucket in self._engine.buckets]
        loads = [sum(cut[rank].values for cut in cuts) for rank in range(self._engine.wire.world)]
        owners = share_out([parameter.numel() for parameter in parameters], loads)
        return dict(zip(parameters, owners, strict=True))

    def _facts_now(self) -> dict[str, Any]:
        """What all workers must go by in this step, whatever their scripts have changed."""
        parameters, known = self._parameters(), self._engine.name_of
        named = [(known.get(p, f"parameter {i}"), p) for i, p in enumerate(parameters)]
        frozen = [name for name, p in named if not p.requires_grad]
        unfrozen = [name for name, p in named if p.requires_grad and p not in known]
        return facts_now(self.param_groups, frozen, unfrozen)

    def _admit(self) -> bool:
        """Exchange what was frozen before and requires a gradient now, as torch would train it.

        Returns:
            Whether there was any.
        """
        number_of, before = self._engine.number_of, len(self._engine.buckets)
        for group in self.param_groups:
            thawed = [p for p in group["params"] if p.requires_grad and p not in number_of]
            self._exchange_from_now_on(group, thawed)
        for name, parameter in [pair for pair in self._hookless if pair[1].requires_grad]:
            self._hookless = [pair for pair in self._hookless if pair[1] is not parameter]
            self._hooks.add(name, parameter)
        return len(self._engine.buckets) > before

    def _add_bucket(
        self,
        group: Group,
        members: list[tuple[str, Parameter]],
        owner_of: dict[Parameter, int] | None,
    ) -> None:
        if owner_of is not None:
            members = sorted(members, key=lambda member: owner_of[member[1]])
        exchange = ParameterBucket(
            members,
            stage_codes(group["code"]),
            self._engine.wire,
            axis=self._config.axis,
            error_feedback=self._config.error_feedback,
            owners=None if owner_of is None else [owner_of[p] for _, p in members],
        )
        bucket = GroupBucket(group, exchange, self.state_names, self.first_state)
        self._engine.add(bucket)
        self._not_stateless(bucket)
        for name, parameter in members:
            if parameter.requires_grad:
                self._hooks.add(name, parameter)
            else:
                self._hookless.append((name, parameter))
        copy_from_worker_0(self._engine, bucket, "initial parameters")

    # --- steps ----------------------------------------------------------------------------------

    @property
    def _schedule(self) -> Schedule:
        """What says when gradients are exchanged, from now on."""
        phase = self._progress.phase
        return self._buffered if self.double_buffer and phase == STEADY else self._schedules[phase]

    @property
    def phase(self) -> str:
        """Where the job stands: "serial" or "dense" in a start, then "steady"."""
        return self._progress.phase

    @property
    def double_buffer(self) -> bool:
        """Whether exchanges go on beside the next computation; see ``OneBitSGD``.

        Raises:
            RuntimeError: it is changed between backward and step.
        """
        return self._double_buffer

    @double_buffer.setter
    def double_buffer(self, wanted: bool) -> None:
        if self._schedule.begun:
            raise RuntimeError(
                "double_buffer: expected a change between steps, got one after backward has sent "
                "gradients: call step() or zero_grad() first"
            )
        self._buffered.counts()  # its buffers take the next gradients during backward
        self._double_buffer = wanted

    @property
    def computes(self) -> bool:
        """Whether this worker's gradients count: False on all but worker 0 of a serial start."""
        return self.phase != SERIAL or self._engine.wire.rank == 0

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate gradients without exchanging them, for all but the last backward of a step."""
        self._syncing, before = False, self._syncing
        try:
            yield
        finally:
            self._syncing = before

    def _gradient_ready(self, parameter: Tensor) -> None:
        check_gradient(self._engine.name_of[parameter], parameter.grad)
        lay_out_gradient(parameter)
        if self._syncing:
            self._schedule.gradient_ready(parameter, self._samples_for_exchange())

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As in torch; gradients that backward has sent already are discarded (``discard``)."""
        self.discard()
        super().zero_grad(set_to_none)

    def discard(self) -> None:
        """Forget what backward has sent since the last step, and leave ``grad`` as it is.

        Residuals are what they were before. What is still to be sent of the model is sent, so that
        all workers know. Every worker must discard the same backward, or take a step with it.

        Raises:
            WithdrawnError: another worker takes a step with what this one discards.
        """
        if self._ended is not None:
            return
        begun = self._schedule.begun
        self._schedule.discard()
        if begun:
            self._settle()

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Finish the exchange and apply the update.

        Args:
            closure: computes the loss and its gradients first.

        Returns:
            The closure's loss.

        Raises:
            WithdrawnError: on every worker, if a gradient was changed after it had been sent.
            DifferentWorkersError: on every worker, if options or frozen parameters are not the
                same on all of them; nothing is applied.
            RuntimeError: the optimiser is closed, or a GradScaler calls.
            ValueError: ``samples`` was never set although an option is stated in samples.
        """
        self._check_live()
        self._made_alone.check()
        self._check_unscaled()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            self.last_step = None
            self._note(self._buffered.land())
            if not self._engine.buckets:
                self._admit()  # all was frozen, and there is no exchange to agree in
            schedule = self._schedule
            self._note(schedule.step(self._samples_for_exchange()))
            if self._schedule is not schedule:
                schedule.end()
            self._settle()
        return loss

    def flush(self) -> None:
        """Apply the update that is in flight, if there is one; every worker must call it.

        ``last_step`` is then its report.
        """
        self._check_live()
        self.last_step = None
        self._note(self._buffered.land())
        self._settle()

    def _note(self, report: StepReport | None) -> None:
        if report is not None:
            self.last_step = report
            self._progress.note(report)

    def _settle(self) -> None:
        """Account for the seconds of what has ended."""
        wire = self._engine.wire
        spans, wire.spans = wire.spans or [], []
        self.times.settle([*self._buffered.take_spans(), *spans])

    def _agreed(self, found: Culprit | None) -> Culprit | None:
        """The (worker, parameter) that any model rank found: other ranks' shards may be fine."""
        return found if self._model is None else agree(found, self._engine.findings(), self._model)

    # --- samples --------------------------------------------------------------------------------

    @property
    def samples(self) -> float:
        """Samples in this worker's next minibatch; see ``OneBitSGD``."""
        return self._count.value

    @samples.setter
    def samples(self, value: float) -> None:
        self._count.set(value)

    def _samples_for_exchange(self) -> float:
        return self._count.needed(self._stated_in_samples() if self.computes else None, "optimizer")

    def _stated_in_samples(self) -> str | None:
        """The first option that ``samples`` is compared with, as the script gave it."""
        if self._config.start_samples:
            return f"start_samples={self._config.start_samples}"
        sizes = [group.get("batch_size") for group in self.param_groups]
        return next((f"batch_size={size}" for size in sizes if size is not None), None)

    # --- its life -------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the parameters and end the communication thread; again does nothing.

        What has been sent and not applied is lost: call ``flush`` first under double buffering.
        ``state_dict`` can still be taken.
        """
        self._end(_CLOSED, wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._end(_CLOSED, wait=error_type is None)  # where one worker fails, others may not answer

    def _lose(self, name: str) -> None:
        self._end(f"another optimiser has taken over its parameters, such as {name!r}", wait=False)

    def _hand_over(self) -> Engine:
        """End, and leave what can be used again to another optimiser."""
        self._check_live()
        self.discard()
        self._buffered.load(None)
        self._ended = "another optimiser was made to take over from it (after=)"
        self._hooks.remove()
        return self._engine

    def _end(self, why: str, *, wait: bool) -> None:
        if self._ended is None:
            self._ended = why
            self._hooks.remove()
            self._engine.thread.submit(self._engine.wire.close)  # after whatever is under way
            self._engine.thread.close(wait=wait)

    def _check_live(self) -> None:
        if self._ended is not None:
            raise RuntimeError(f"{type(self).__name__}: {self._ended}")

    def _check_unscaled(self) -> None:
        if self.__dict__.pop("found_inf", None) is not None:
            self.__dict__.pop("grad_scale", None)
            self.discard()
            raise RuntimeError(
                f"GradScaler: {type(self).__name__} exchanges gradients as backward leaves them, "
                "still scaled. Use bfloat16 autocast, which needs no scaler, or "
                "DistributedDataParallel with thinwire.OneBitState(grad_scaler=scaler)"
            )

    # --- accounts -------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """Traffic of this worker so far."""
        return self._engine.wire.ledger

    @property
    def wire(self) -> Wire:
        """The workers, for collectives between steps, while no exchange is in flight."""
        return self._engine.wire

    @property
    def times(self) -> Timeline:
        """Where the seconds of this worker's exchanges went."""
        return self._engine.times

    @property
    def measure(self) -> bool:
        """Whether steps report residual ratios."""
        return self._engine.measure

    @measure.setter
    def measure(self, wanted: bool) -> None:
        self._engine.set_measure(wanted)

    def __getstate__(self) -> dict[str, Any]:
        """Refuse to be copied or pickled."""
        refuse_copy(self)

    # --- checkpoints ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """This worker's whole state: rates, residuals, and the owner's part of the rest.

        Returns:
            The form of ``exchange.state``: torch's "state" and "param_groups"; for parameter i,
            ``state[i]`` has "residual" (of the parameter's shape) and, for the wire-order values
            ``owned[0] .. owned[1] - 1`` that this worker owns, "owner_residual", "momentum" and
            "adagrad" as far as they exist. Where this worker owns whole parameters, what their
            optimiser keeps has names that begin with "inner.". Tensors are the live buffers, as
            in torch.
        """
        wire, buckets = self._engine.wire, self._engine.buckets
        pending = self._buffered.counts()
        if self.double_buffer:
            show_pending(buckets, pending)
        counts = {
            "rank": wire.rank,
            "world": wire.world,
            "axis": self._config.axis,
            "ledger": self.ledger.state_dict(),
            **self._progress.counts(),
            "pending": pending,
            **bucket_counts(buckets, self._parameters()),
            **grid_counts(self._parameters(), self._model),
        }
        state = worker_state(buckets, self._parameters(), serial=self.phase == SERIAL)
        found = super().state_dict()
        groups = stored_groups(found["param_groups"])
        return with_counts({**found, "param_groups": groups, "state": state}, counts)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from this worker's ``state_dict``.

        ``thinwire.reshard`` makes it from the states of another number of workers.

        Raises:
            ValueError: the state of another worker, of another number of workers, or of
                parameters of other shapes.
        """
        self._check_live()
        if "param_groups" not in state_dict:
            raise ValueError(
                "state_dict: expected an optimiser's, which has param_groups; a hook's or FSDP2's "
                "belongs to OneBitState or ShardedState"
            )
        self.discard()
        wire, buckets, axis = self._engine.wire, self._engine.buckets, self._config.axis
        self._engine.run(lambda: None)  # a step that raised may have left jobs on the thread
        counts = counts_of(state_dict)
        check_counts(counts, rank=wire.rank, world=wire.world, axis=axis)
        own = own_shards(state_dict, self._parameters(), axis, self._model)
        stored = [without_bits(group) for group in without_counts(own)["param_groups"]]
        groups = live_groups(stored, self.param_groups)
        super().load_state_dict({**without_counts(own), "param_groups": groups, "state": {}})
        self._buffered.load(counts.get("pending"))
        self._progress.load(counts)
        self.ledger.load_state_dict(counts["ledger"])
        self._adopt(own)
        group_of = {p: group for group in self.param_groups for p in group["params"]}
        for bucket in buckets:
            bucket.group = group_of[bucket.parameters[0]]  # loading made new ones
            self._not_stateless(bucket)
        serial = self.phase == SERIAL
        load_worker_state(buckets, self.param_groups, own, counts, serial=serial)

    def _adopt(self, state: State) -> None:
        """Make buckets for what was trained when a state was taken and is frozen, or new, here."""
        keys = [key for group in state["param_groups"] for key in group["params"]]
        stored = state["state"]
        trained = {
            parameter
            for key, parameter in zip(keys, self._parameters(), strict=True)
            if "residual" in stored.get(key, stored.get(str(key), {}))
        }
        for group in self.param_groups:
            unknown = [p for p in group["params"] if p in trained - self._engine.number_of.keys()]
            self._exchange_from_now_on(group, unknown)

    def _not_stateless(self, bucket: GroupBucket) -> None:
        """Keep torch's get_optimizer_state_dict from taking a step to make state: it is here."""
        self.state.update((parameter, {}) for parameter in bucket.parameters)

    def _parameters(self) -> list[Parameter]:
        return [p for group in self.param_groups for p in group["params"]]
