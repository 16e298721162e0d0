"""ExchangedOptimizer: what every optimiser does whose update is computed at the owner.

One step, on every worker (S sections 3 and 4):

    sub-gradient -> + residual -> quantise -> all_to_all -> sum at the owner
    -> post-process -> + residual -> quantise -> all_gather -> apply

Everything up to the sum happens bucket by bucket while backward still runs, on one communication
thread; ``step`` does the rest. With double buffering one ``step`` begins all of it and the next
ends it (``double_buffer``). ``OneBitSGD`` and ``OwnerOptimizer`` say what post-processing is.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, TypedDict, TypeVar, cast, overload

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange import (
    Fifo,
    Header,
    Ledger,
    Timeline,
    Wire,
    check_counts,
    counts_of,
    own_wire,
    span,
    with_counts,
    without_counts,
)
from thinwire.optim import stages
from thinwire.optim.bucket import Bucket, cut_into_buckets
from thinwire.optim.cold_start import copy_from_worker_0, hand_over, serial_step
from thinwire.optim.double_buffer import DoubleBuffer, show_pending
from thinwire.optim.progress import ColdStart, Culprit, Progress, StepReport
from thinwire.optim.shards import agree, grid_counts, lay_out_gradient, model_wire, own_shards
from thinwire.optim.state import bucket_counts, load_worker_state, worker_state
from thinwire.quantize import Axis, Float32Code, StageCodes, stage_codes

T = TypeVar("T")
_EXACT = StageCodes(Float32Code(), Float32Code())


class ExchangeOptions(TypedDict, total=False):
    """The keyword arguments all optimisers share; ``OneBitSGD`` explains them."""

    code: str
    bits: int | tuple[int, int]
    error_feedback: bool
    axis: Axis
    cold_start: int
    cold_start_mode: ColdStart
    bucket_mb: float
    max_skips: int
    double_buffer: bool
    process_group: dist.ProcessGroup | None
    timeout: timedelta | None
    after: "ExchangedOptimizer | None"


class ExchangedOptimizer(torch.optim.Optimizer):
    """The two-stage exchange as a torch optimiser; subclasses compute the update.

    The arguments and attributes are explained by ``OneBitSGD``, which has them all.
    """

    def __init__(
        self,
        params: Iterable[Any],
        defaults: dict[str, Any],
        *,
        code: str = "sign",
        bits: int | tuple[int, int] = 1,
        error_feedback: bool = True,
        axis: Axis = "output",
        cold_start: int = 0,
        cold_start_mode: ColdStart = "serial",
        bucket_mb: float = 25.0,
        max_skips: int = 10,
        double_buffer: bool = False,
        process_group: dist.ProcessGroup | None = None,
        timeout: timedelta | None = None,
        after: "ExchangedOptimizer | None" = None,
    ) -> None:
        if bucket_mb <= 0:
            raise ValueError(f"bucket_mb: expected > 0, got {bucket_mb}")
        self._axis: Axis = axis
        self._error_feedback = error_feedback
        self._bucket_bytes = bucket_mb * 2**20
        self._progress = Progress(cold_start, cold_start_mode, max_skips)
        self.samples: float = 1
        self.measure = False
        self.last_step: StepReport | None = None
        self.ledger: Ledger = after.ledger if after else Ledger()
        self._wire: Wire = after._wire if after else own_wire(process_group, timeout, self.ledger)
        self._wire.spans = []
        self._model: Wire | None = None  # the ranks that hold the parameters' other shards
        self.times: Timeline = after.times if after else Timeline()
        self._thread: Fifo = after._thread if after else Fifo("thinwire exchange")
        self._flight = DoubleBuffer(self._thread, self._wire)
        self.double_buffer = double_buffer
        if after:
            self._progress.load(after._progress.counts())
        self._syncing = True
        self._buckets: list[Bucket] = []
        self._bucket_of: dict[Parameter, Bucket] = {}
        self._launched: list[Future[list[Header]]] = []
        super().__init__(params, {**defaults, "code": code, "bits": bits})

    # --- what a subclass says -------------------------------------------------------------------

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise ValueError, naming the option, unless a param group's options make sense."""
        raise NotImplementedError

    def state_names(self, group: dict[str, Any]) -> list[str]:
        """The tensors of the owner's state that a param group's options call for."""
        raise NotImplementedError

    def scalar_names(self, group: dict[str, Any]) -> list[str]:
        """The entries of that state that are one number for all values."""
        return []

    def post_process(
        self, bucket: Bucket, group: stages.Group, gradient: Tensor, start: int, samples: float
    ) -> None:
        """Turn a mean gradient into the update that is subtracted, in place.

        Args:
            bucket: whose ``state`` covers the same run of values, or is still empty.
            group: the options of its param group when the exchange began.
            gradient: float32 ``[n]``, of the bucket's values from ``start`` on.
            start: index of the first value.
            samples: samples in the minibatch, over all workers.
        """
        raise NotImplementedError

    # --- construction ---------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch; every worker must add the same group at the same step."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        self.check_group(group)
        first = sum(len(g["params"]) for g in self.param_groups[:-1])
        names = group.get("param_names") or [
            f"parameter {first + i}" for i in range(len(group["params"]))
        ]
        trained = [
            (name, p) for name, p in zip(names, group["params"], strict=True) if p.requires_grad
        ]
        self._model = model_wire(trained, self._wire, self._model)
        if self._model is not None and self.double_buffer:
            raise ValueError("double_buffer: expected False where parameters are sharded DTensors")
        for members in cut_into_buckets(trained, self._bucket_bytes):
            bucket = Bucket(
                group,
                members,
                stage_codes(group["code"], group["bits"]),
                self.state_names(group),
                axis=self._axis,
                rank=self._wire.rank,
                world=self._wire.world,
                error_feedback=self._error_feedback,
            )
            self._buckets.append(bucket)
            self._not_stateless(bucket)
            for parameter in bucket.parameters:
                self._bucket_of[parameter] = bucket
                parameter.register_post_accumulate_grad_hook(self._gradient_ready)
            copy_from_worker_0(bucket, self._wire, self._run, "initial parameters")

    # --- while backward runs --------------------------------------------------------------------

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate gradients without exchanging them, for all but the last backward of a step."""
        self._syncing, before = False, self._syncing
        try:
            yield
        finally:
            self._syncing = before

    @property
    def phase(self) -> str:
        """Where the job stands: "serial" or "dense" in the cold start, then "steady"."""
        return self._progress.phase

    @property
    def computes(self) -> bool:
        """Whether this worker's gradients count: False on all but worker 0 of a serial start."""
        return self.phase != "serial" or self._wire.rank == 0

    def _gradient_ready(self, parameter: Tensor) -> None:
        lay_out_gradient(parameter)
        if not self._syncing or self.phase == "serial" or self._buffers:
            return
        bucket = self._bucket_of[cast(Parameter, parameter)]
        if self._buckets.index(bucket) < len(self._launched):
            raise RuntimeError(
                "a second backward before step(): its bucket has been sent. Wrap all but the last "
                "backward of a step in `with optimizer.no_sync():`"
            )
        bucket.waiting.discard(cast(Parameter, parameter))
        while len(self._launched) < len(self._buckets):
            if self._buckets[len(self._launched)].waiting:
                break
            self._launch_next()

    def _launch_next(self) -> None:
        bucket = self._buckets[len(self._launched)]
        job = partial(self._reduce, bucket, float(self.samples))
        self._launched.append(self._thread.submit(job))

    @torch.no_grad()
    def _reduce(self, bucket: Bucket, samples: float) -> list[Header]:
        """Stage 1 of one bucket, on the communication thread."""
        with span("sub-gradient", self._wire.spans):
            bucket.collect_gradients()
        return stages.reduce(bucket, self._codes(bucket), samples, self._wire, measure=self.measure)

    # --- step -----------------------------------------------------------------------------------

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
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            self.last_step = None
            self._land()  # the half before, under double buffering
            if self._buffers:
                post_process, samples = self.post_process, float(self.samples)
                self._flight.launch(
                    self._buckets, samples, post_process, self.times, measure=self.measure
                )
            else:
                self._step_at_once()
            self._settle()
        return loss

    def _step_at_once(self) -> None:
        serial = self.phase == "serial"
        self._note(self._serial_step() if serial else self._exchange_step())
        if serial and self.phase == "steady":
            self._end_serial_start()

    def _note(self, report: StepReport) -> None:
        self.last_step = report
        self._progress.note(report)

    def _exchange_step(self) -> StepReport:
        while len(self._launched) < len(self._buckets):
            self._launch_next()  # parameters without gradient count as zero
        try:
            with self.times.waiting():
                headers = [future.result() for future in self._launched]
        finally:
            self._launched = []
            for bucket in self._buckets:
                bucket.waiting = set(bucket.parameters)
        report = stages.verdict(self._buckets, headers, self.phase)
        report = replace(report, nonfinite=self._agreed(report.nonfinite))
        if report.nonfinite is not None:
            return report
        self._distribute(report.samples)
        ratio = stages.residual_ratio(self._buckets) if self.measure else None
        return replace(report, residual_ratio=ratio)

    def _distribute(self, samples: float) -> None:
        """Post-process and stage 2, each bucket's on the wire while the next is computed."""
        own, pending = self.times.own, []
        for bucket in self._buckets:
            post_process = partial(self.post_process, bucket, bucket.group)
            stages.own_update(bucket, samples, post_process, own, measure=self.measure)
            codes, out = self._codes(bucket), bucket.scratch
            job = partial(stages.distribute, bucket, codes, out, self._wire)
            pending.append(self._thread.submit(job))
        overflow: Culprit | None = None
        for bucket, future in zip(self._buckets, pending, strict=True):
            try:
                with self.times.waiting():
                    future.result()
            except stages.UpdateError as error:
                overflow = error.culprit
                break
            with span("apply", own):
                bucket.apply(bucket.scratch)
        overflow = self._agreed(overflow)
        if overflow is not None:
            raise stages.UpdateError(overflow)

    def _agreed(self, found: Culprit | None) -> Culprit | None:
        """The (worker, parameter) that any model rank found: other ranks' shards may be fine."""
        names = [name for bucket in self._buckets for name in bucket.names]
        return found if self._model is None else agree(found, names, self._model)

    def _codes(self, bucket: Bucket) -> StageCodes:
        return bucket.codes if self.phase == "steady" else _EXACT

    # --- double buffering -----------------------------------------------------------------------

    @property
    def _buffers(self) -> bool:
        """Whether this half's exchange goes on while the next half is computed."""
        return self.double_buffer and self.phase == "steady"

    def flush(self) -> None:
        """Apply the update that is in flight, if there is one; every worker must call it.

        ``last_step`` is then its report.
        """
        self.last_step = None
        self._land()
        self._settle()

    def _land(self) -> None:
        report = self._flight.land(self._buckets, self.times)
        if report is not None:
            self._note(report)

    def _settle(self) -> None:
        """Account for the seconds of what has ended."""
        spans, self._wire.spans = self._wire.spans or [], []
        self.times.settle([*self._flight.take_spans(), *spans])

    # --- serial cold start ----------------------------------------------------------------------

    def _serial_step(self) -> StepReport:
        samples, run = float(self.samples), self._run
        return serial_step(
            *(self._buckets, samples, self.post_process, self._wire, run, self._agreed),
            self.times.own,
        )

    @torch.no_grad()
    def _end_serial_start(self) -> None:
        for bucket in self._buckets:
            hand_over(bucket, self.scalar_names(bucket.group), self._wire, self._run)

    # --- bookkeeping and checkpoints ------------------------------------------------------------

    def _run(self, job: Callable[[], T]) -> T:
        """Run a job on the communication thread and wait for it."""
        return self._thread.submit(job).result()

    def close(self) -> None:
        """End the communication thread."""
        self._thread.close()

    def state_dict(self) -> dict[str, Any]:
        """This worker's whole state: rates, residuals, and the owner's part of the rest.

        Returns:
            The form of ``exchange.state``: torch's "state" and "param_groups"; for parameter i,
            ``state[i]`` has "residual" (of the parameter's shape) and, for the wire-order values
            ``owned[0] .. owned[1] - 1`` that this worker owns, "owner_residual", "momentum" and
            "adagrad" as far as they exist. Tensors are the live buffers, as in torch.
        """
        pending = self._flight.counts()
        if self.double_buffer:
            show_pending(self._buckets, pending)
        counts = {
            "rank": self._wire.rank,
            "world": self._wire.world,
            "axis": self._axis,
            "ledger": self.ledger.state_dict(),
            **self._progress.counts(),
            "pending": pending,
            **bucket_counts(self._buckets, self.param_groups),
            **grid_counts(self._parameters(), self._model),
        }
        state = worker_state(self._buckets, self._parameters(), serial=self.phase == "serial")
        return with_counts({**super().state_dict(), "state": state}, counts)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from this worker's ``state_dict``.

        ``thinwire.reshard`` makes it from the states of another number of workers.

        Raises:
            ValueError: the state of another worker, of another number of workers, or of
                parameters of other shapes.
        """
        self._run(lambda: None)  # a step that raised may have left jobs on the thread
        counts = counts_of(state_dict)
        check_counts(counts, rank=self._wire.rank, world=self._wire.world, axis=self._axis)
        own = own_shards(state_dict, self._parameters(), self._axis, self._model)
        super().load_state_dict({**without_counts(own), "state": {}})
        self._flight.load(counts.get("pending"))
        self._progress.load(counts)
        self.ledger.load_state_dict(counts["ledger"])
        group_of = {p: group for group in self.param_groups for p in group["params"]}
        for bucket in self._buckets:
            bucket.group = group_of[bucket.parameters[0]]  # loading made new ones
            self._not_stateless(bucket)
        serial = self.phase == "serial"
        load_worker_state(self._buckets, self.param_groups, own, counts, serial=serial)

    def _not_stateless(self, bucket: Bucket) -> None:
        """Keep torch's get_optimizer_state_dict from taking a step to make state: it is here."""
        self.state.update((parameter, {}) for parameter in bucket.parameters)

    def _parameters(self) -> list[Parameter]:
        return [p for group in self.param_groups for p in group["params"]]
