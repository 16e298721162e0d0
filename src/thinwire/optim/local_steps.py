"""LocalSteps: every worker takes H steps of its own, then all exchange how far they have moved.

One round, on worker k, with the anchor the same everywhere:

    theta_k = anchor;  H steps of any torch optimiser on the worker's own samples
    d_k = anchor - theta_k  -> + residual -> quantise -> all_to_all -> mean at the owner
    -> outer momentum -> + residual -> quantise -> all_gather
    anchor = anchor - update, and everyone goes on from there

What travels is an average over H steps already, so that few bits a value will do, and it
travels H times less often. The rounds are those of [Douillard 2023]; the two stages with error
feedback are [Seide 2014]'s, and so is the overlap (``delay``), its section 2.2 at the scale of
rounds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange import (
    SERIAL,
    Codes,
    ExchangeConfig,
    Ledger,
    SampleCount,
    State,
    Timeline,
    counts_of,
    refuse_copy,
    with_counts,
)
from thinwire.optim.anchor import AnchorOptimizer, anchor_of, moved
from thinwire.optim.averaged_buffers import AveragedBuffers
from thinwire.optim.engine import NoSamplesError
from thinwire.optim.given import check_is_no_model, options_now
from thinwire.optim.inner_optimizers import InnerOptimizers
from thinwire.optim.progress import STEADY, StepReport
from thinwire.quantize import Axis


class LocalSteps:
    """Local steps by any torch optimiser, and rounds that bring the workers together.

        inner = torch.optim.AdamW(model.parameters(), lr=1e-3)
        optimizer = thinwire.LocalSteps(inner, model.named_parameters(), every=16)
        for inputs, targets in share_of_this_worker:
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()
        optimizer.end_round()  # before the model is evaluated or stored

    It takes the place of DistributedDataParallel: give it the bare model. Learning rate schedules,
    clipping and GradScaler work on the inner optimiser as they do on one worker; the schedule is
    given ``inner``, the scaler this object. Every worker takes the same number of steps, with
    ``samples`` 0 and no gradients where it has run out of data; or all call ``end_round``.

    Between rounds the workers' models differ. The anchor is the same on all of them, and so is the
    model after ``end_round``.

    - A round in which some worker's parameters are not finite is dropped by all together: everyone
      goes back to the anchor, and what the inner optimiser knows of a parameter there is forgotten
      where it is not finite.
    - What the inner optimiser keeps stays on its worker. In a job with another number of workers,
      worker k goes on with that of old worker k modulo their number.

    Args:
        inner: any torch optimiser over the model's parameters; or a list of several that share
            them out, such as Muon for matrices and AdamW for the rest, which step one after the
            other.
        named_parameters: the model's; those of the inner optimiser are exchanged.
        every: H, the steps of a round.
        lr: the outer learning rate; 1 goes to the mean of what the workers have reached.
        momentum: the outer one, Nesterov's. It must suit the number of rounds: 0.5 for a hundred,
            0.9 for thousands.
        delay: the update of a round is applied after so many steps of the next one, while its
            exchange goes on beside them. 0 waits for it.
        buffers: the model's (``model.named_buffers()``), averaged at the end of each round; without
            it every worker keeps its own.
        code: see ``ExchangeConfig``, as for the other options that are not explained here.
        error_feedback: see there.
        axis: see there.
        start: a code, see there; the first ``start_steps`` rounds have one step each.
        start_steps: see there. A few dozen are worth their bytes where the loss falls steeply.
        bucket_mb: see there.
        max_skips: rounds in a row that may be dropped.
        process_group: see ``OneBitSGD``.
        timeout: see ``ExchangeConfig``.
        transport: see there.

    Attributes:
        inner: as given.
        outer: the optimiser of the anchor; its ``param_groups`` have the outer rates.
        last_round: what the last round did; None before the first.
        last_step: the same, where the last step brought that round to its end, else None.
        ledger: traffic of this worker so far.

    Raises:
        TypeError: ``inner`` is no torch optimiser, or one that exchanges gradients itself; a
            parameter is a DTensor.
        ValueError: an argument out of range; a parameter of ``inner`` without a name, or in two
            optimisers.
        DifferentWorkersError: the workers were not given the same.
    """

    # torch.amp.GradScaler then calls ``step``, whatever it found, so that rounds stay in step.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        inner: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        named_parameters: Iterable[tuple[str, Parameter]],
        *,
        every: int,
        lr: float = 1.0,
        momentum: float = 0.5,
        delay: int = 0,
        buffers: Iterable[tuple[str, Tensor]] = (),
        code: Codes = ExchangeConfig.code,
        error_feedback: bool | float = ExchangeConfig.error_feedback,
        axis: Axis = ExchangeConfig.axis,
        start: Codes = ExchangeConfig.start,
        start_steps: int = ExchangeConfig.start_steps,
        bucket_mb: float = ExchangeConfig.bucket_mb,
        max_skips: int = 10,
        process_group: dist.ProcessGroup | None = None,
        timeout: timedelta | None = ExchangeConfig.timeout,
        transport: str = ExchangeConfig.transport,
    ) -> None:
        self._inner = InnerOptimizers(inner)
        check_is_no_model(named_parameters)
        for name, value, least in (("every", every, 1), ("delay", delay, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: expected a whole number >= {least}, got {value!r}")
        if delay >= every:
            raise ValueError(f"delay: expected less than every = {every}, got {delay}")
        if start == SERIAL:
            raise ValueError("start: expected a code, got 'serial': every worker trains")
        self.inner, self.every, self.delay = inner, every, delay
        named = self._inner.named(named_parameters)
        self._parameters = [parameter for _, parameter in named]
        self._anchors = [anchor_of(parameter) for parameter in self._parameters]
        facts = {"the inner optimiser": self._inner.names, "every": every, "delay": delay}
        self.outer = AnchorOptimizer(
            list(zip([name for name, _ in named], self._anchors, strict=True)),
            facts,
            self._facts_now,
            lr=lr,
            momentum=momentum,
            code=code,
            error_feedback=error_feedback,
            axis=axis,
            start=start,
            start_steps=start_steps,
            bucket_mb=bucket_mb,
            max_skips=max_skips,
            process_group=process_group,
            timeout=timeout,
            transport=transport,
        )
        self._buffers = AveragedBuffers(buffers)
        self._count = SampleCount()
        self._taken = 0  # steps since the last round was sent
        self._weight = 0.0  # samples in them
        self._sent: list[Tensor] | None = None  # parameters when the round in flight was sent
        self.last_round: StepReport | None = None
        self.last_step: StepReport | None = None
        self._go_to_anchor()

    # --- steps ----------------------------------------------------------------------------------

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The inner optimiser's, or those of all of them, one after the other."""
        return self._inner.param_groups

    @property
    def samples(self) -> float:
        """Samples in this worker's next minibatch: the weight of its step in the mean of a round.

        Until the script says so, every step counts 1.
        """
        return self._count.value

    @samples.setter
    def samples(self, value: float) -> None:
        self._count.set(value)

    @property
    def ledger(self) -> Ledger:
        """Traffic of this worker so far."""
        return self.outer.ledger

    @property
    def phase(self) -> str:
        """Where the job stands: "dense" while rounds have one step each, then "steady"."""
        return self.outer.phase

    @property
    def steps_in_round(self) -> int:
        """Steps of this worker since the last round was sent."""
        return self._taken

    @property
    def times(self) -> Timeline:
        """Where the seconds of this worker's exchanges went."""
        return self.outer.times

    @property
    def measure(self) -> bool:
        """Whether rounds report residual ratios."""
        return self.outer.measure

    @measure.setter
    def measure(self, wanted: bool) -> None:
        self.outer.measure = wanted

    @property
    def anchor(self) -> dict[str, Tensor]:
        """The model that all workers share, by parameter name; live, not to be changed."""
        names = self.outer.param_groups[0]["param_names"]
        return {name: a.detach() for name, a in zip(names, self._anchors, strict=True)}

    @contextmanager
    def at_anchor(self) -> Iterator[None]:
        """Have the model be the anchor while this lasts, in the middle of a round too.

        It is how a model is evaluated or stored without ending the round: afterwards the worker's
        own parameters are back, to the bit. Nothing may train meanwhile, and a round in flight is
        not in the anchor yet.
        """
        with torch.no_grad():
            own = [parameter.clone() for parameter in self._parameters]
            self._go_to_anchor()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self._parameters, own, strict=True):
                    parameter.copy_(value)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As in torch."""
        self._inner.zero_grad(set_to_none)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take a step of the inner optimiser; at the end of a round exchange it.

        Args:
            closure: see the inner optimiser; where there are several, the first one calls it.

        Returns:
            What the inner optimiser returns, or the first of them.

        Raises:
            DifferentWorkersError: on every worker, if options are not the same on all of them.
            FloatingPointError: too many rounds in a row had to be dropped.
            ValueError: the inner optimiser has other parameters than in the beginning.
        """
        if sum(len(group["params"]) for group in self.param_groups) != len(self._parameters):
            raise ValueError(
                "inner: expected the parameters that it had when LocalSteps was made, got others: "
                "make a new LocalSteps after add_param_group"
            )
        self.last_step = None
        loss: float | None = None
        if self._unscale():
            loss = self._inner.step(closure)
            self._weight += self.samples
        self._taken += 1
        if self._sent is not None and self._taken == self.delay:
            self._land()
        if self._taken >= (self.every if self.outer.phase == STEADY else 1):
            self._send(self.delay if self.outer.phase == STEADY else 0)
        return loss

    def flush(self) -> None:
        """Wait for the round in flight, if there is one, and apply it; every worker calls it."""
        self.last_step = None
        self._land()

    def end_round(self) -> None:
        """End the round now, however many steps it has; then all models are the anchor.

        Every worker calls it at the same point, also one that has taken no step since.
        """
        self.flush()
        try:
            self._send(0)
        except NoSamplesError:
            self._go_to_anchor()  # nobody has moved since the last round

    def close(self) -> None:
        """End the communication thread; a round in flight is lost: call ``flush`` first."""
        self.outer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.outer.__exit__(kind, error, trace)

    @torch.no_grad()
    def _land(self) -> None:
        """Wait for the round in flight, if there is one, and apply it."""
        if self._sent is None:
            return
        self.outer.flush()
        sent, self._sent = self._sent, None
        if not self._arrived():
            return
        for parameter, anchor, before in zip(self._parameters, self._anchors, sent, strict=True):
            since = before.sub_(parameter)  # what has been moved meanwhile stays
            parameter.copy_(anchor)
            parameter.sub_(since)

    @torch.no_grad()
    def _send(self, delay: int) -> None:
        """Exchange what has been moved; wait for the update, or leave it in flight."""
        for anchor, parameter in zip(self._anchors, self._parameters, strict=True):
            anchor.grad = moved(anchor, parameter)
        self.outer.samples = self._weight
        self._buffers.average(self.outer.wire, self._weight)
        self.outer.double_buffer = delay > 0
        if delay:
            self._sent = [parameter.clone() for parameter in self._parameters]
        try:
            self.outer.step()
        finally:
            for anchor in self._anchors:
                anchor.grad = None
        self._taken, self._weight = 0, 0.0
        if not delay and self._arrived():
            self._go_to_anchor()

    def _arrived(self) -> bool:
        """Take note of a round; where it was dropped, go back to the anchor."""
        self.last_round = self.last_step = self.outer.last_step
        kept = self.last_round is not None and self.last_round.nonfinite is None
        if not kept:
            self._go_to_anchor()
            self._inner.forget_nonfinite()
            self._weight = 0.0
        return kept

    @torch.no_grad()
    def _go_to_anchor(self) -> None:
        for parameter, anchor in zip(self._parameters, self._anchors, strict=True):
            parameter.copy_(anchor)

    def _unscale(self) -> bool:
        """Undo a GradScaler's scale, if one calls; return whether its gradients are finite."""
        found, scale = (getattr(self, name, None) for name in ("found_inf", "grad_scale"))
        if found is not None and bool(found):
            return False
        if scale is not None:
            for parameter in self._parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(scale)
        return True

    def _facts_now(self) -> dict[str, Any]:
        """The inner optimiser's options, which scripts may change."""
        options = options_now(self.param_groups)
        return {f"the inner {name}": value for name, value in options.items()}

    # --- state ----------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Refuse to be copied or pickled."""
        refuse_copy(self)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on, at any step of a round.

        Returns:
            The outer optimiser's (the form of ``exchange.state``), where each parameter also has
            the "anchor", "local" (this worker's parameter) and, while a round is in flight, "sent";
            and "inner", the inner optimiser's, or a list of theirs. ``thinwire.reshard`` adapts it
            to another number of workers; what each has moved in the unfinished round is then
            carried as a residual.
        """
        found = self.outer.state_dict()
        for i, (parameter, anchor) in enumerate(zip(self._parameters, self._anchors, strict=True)):
            found["state"][i] |= {"anchor": anchor.detach(), "local": parameter.detach()}
            if self._sent is not None:
                found["state"][i]["sent"] = self._sent[i]
        counts = {**counts_of(found), "steps_in_round": self._taken, "moved_samples": self._weight}
        return {**with_counts(found, counts), "inner": self._inner.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: State) -> None:
        """Continue from this worker's ``state_dict``; the model's parameters become those of it.

        Raises:
            ValueError: the state of something else, of another worker or number of workers, or of
                other parameters.
        """
        if "inner" not in state_dict:
            raise ValueError("state_dict: expected one that LocalSteps made, which has 'inner'")
        self._inner.check_state(state_dict["inner"])
        outer = {name: value for name, value in state_dict.items() if name != "inner"}
        self.flush()
        self.outer.load_state_dict(outer)
        counts, entries = counts_of(outer), outer["state"]
        self._taken, self._weight = counts["steps_in_round"], counts["moved_samples"]
        sent = []
        for i, (parameter, anchor) in enumerate(zip(self._parameters, self._anchors, strict=True)):
            entry = entries.get(i, entries.get(str(i), {}))
            anchor.copy_(entry["anchor"])
            parameter.copy_(entry.get("local", anchor))
            sent.append(entry.get("sent", parameter).clone())
        self._sent = sent if counts.get("pending") is not None else None
        self._inner.load_state_dict(state_dict["inner"])
