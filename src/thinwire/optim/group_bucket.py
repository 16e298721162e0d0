"""A bucket under an optimiser: parameters of one param group, and the owner's state for them."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange import ParameterBucket, as_real, local
from thinwire.optim.postprocess import LocalAdaGrad, State
from thinwire.quantize import stage_codes, to_wire


class GroupBucket:
    """Parameters that are exchanged together and whose rates are the same.

    Args:
        group: the optimiser's param group, whose rates apply.
        exchange: how its sub-gradients and updates travel.
        names_of: the tensors of the owner's post-processing state that a group's options call for.
        first_state: what an optimiser of whole parameters will keep of one after its first update.

    Attributes:
        group: see above; its options are read whenever they count. Loading a state dict replaces
            it.
        exchange: see above.
        state: the owner's state, over the run of values this worker owns.
        kept: for each parameter which of these tensors it has; it lacks them, and they are zero
            there, until its first update.
        scalars: for each parameter the part of that state that is not per value, such as a count
            of steps.
        inner: where workers own whole parameters, for each that this worker owns the tensors that
            the optimiser keeps of it, of any shape; ``state`` is empty then.
        local: worker-side AdaGrad, once it was asked for.
        waiting: parameters whose gradient this step still lacks.
        held: the owned run of the parameters as it was when a step began, as long as that step's
            exchange goes on beside whatever the script does to them.
        pending: float32 ``[values]``, an update that has arrived and is not applied yet; None
            until double buffering needs it.
    """

    def __init__(
        self,
        group: dict[str, Any],
        exchange: ParameterBucket,
        names_of: Callable[[dict[str, Any]], list[str]],
        first_state: Callable[[dict[str, Any], Tensor], State],
    ) -> None:
        self.group, self.exchange = group, exchange
        self._names_of, self._first_state = names_of, first_state
        self.space = exchange.space
        self.state: State = {}
        self.kept: list[set[str]] = [set() for _ in exchange.parameters]
        self.scalars: list[dict[str, float]] = [{} for _ in exchange.parameters]
        self.inner: list[State] = [{} for _ in exchange.parameters]
        self.local: LocalAdaGrad | None = None
        self.waiting: set[Tensor] = set(self.parameters)
        self.held: Tensor | None = None
        self.pending: Tensor | None = None

    @property
    def state_names(self) -> list[str]:
        """The tensors of the owner's state by value that the group's options call for now."""
        return [] if self.exchange.whole else self._names_of(self.group)

    def first_state(self, i: int) -> State:
        """Return tensors of the form that the optimiser will keep of the i-th parameter."""
        like = self.scratch.new_empty(self.space.shapes[i])
        return self._first_state(self.group, like)

    @property
    def names(self) -> list[str]:
        """Of the parameters, in wire order."""
        return self.exchange.names

    @property
    def parameters(self) -> list[Tensor]:
        """In wire order."""
        return self.exchange.parameters

    @property
    def scratch(self) -> Tensor:
        """float32 ``[values]``: free between ``commit`` and the next sub-gradient."""
        return self.exchange.scratch

    def receive(self) -> Tensor:
        """Return ``pending``, made when first needed."""
        if self.pending is None:
            self.pending = self.scratch.new_zeros(self.space.values)
        return self.pending

    def collect_gradients(self) -> None:
        """Copy every parameter's ``grad`` to the exchange's input, as the options say now."""
        self.exchange.codes = stage_codes(self.group["code"])
        self.exchange.collect([parameter.grad for parameter in self.exchange.parameters])
        local = self.local_adagrad()
        if local is not None:
            local.normalise(self.scratch, self.group["eps"])

    def local_adagrad(self) -> LocalAdaGrad | None:
        """Worker-side AdaGrad, made when first needed; None where the options do not ask for it."""
        if self.group.get("adagrad") != "local":
            return None
        if self.local is None:
            self.local = LocalAdaGrad(self.space.values, self.scratch.device)
        return self.local

    def commit_local(self) -> None:
        """Keep worker-side AdaGrad's sums, if the options ask for them."""
        local = self.local_adagrad()
        if local is not None:
            local.commit()

    def owned_runs(self, start: int, stop: int) -> list[slice]:
        """For each parameter the run of values ``start .. stop - 1`` that is its; may be empty."""
        runs = [slice(0, 0)] * len(self.parameters)
        for i, first, last in self.space.overlaps(start, stop):
            at = self.space.ranges[i][0] - start
            runs[i] = slice(at + first, at + last)
        return runs

    def owned(self, start: int, stop: int) -> list[int]:
        """Return the parameters that have any of the values ``start .. stop - 1``."""
        return [i for i, _, _ in self.space.overlaps(start, stop)]

    def hold_own(self) -> None:
        """Copy the owned run of the parameters to ``held``."""
        stripe = self.exchange.stripe
        self.held = self.parameter_values(stripe.start, stripe.stop)

    def own_values(self, start: int, stop: int) -> Tensor:
        """Return a float32 copy of the parameters that an owner updates.

        Args:
            start: of its run of wire-order values.
            stop: its end.
        """
        return self.parameter_values(start, stop) if self.held is None else self.held

    def parameter_values(self, start: int, stop: int) -> Tensor:
        """Return a float32 copy of the parameters' wire-order values ``start .. stop - 1``."""
        run, own = self.scratch.new_empty(stop - start), self.exchange.shards
        for i, first, last in self.space.overlaps(start, stop):
            at = self.space.ranges[i][0] + first - start
            run[at : at + last - first].copy_(to_wire(own[i], self.space.axis)[first:last])
        return run


def cut_into_buckets(
    parameters: Sequence[tuple[str, Parameter]], enough_bytes: float
) -> list[list[tuple[str, Parameter]]]:
    """Cut parameters into runs, last parameter first, each closed at ``enough_bytes`` or more.

    Backward reaches the last parameters first, so their bucket is complete, and on its way, first.
    """
    buckets: list[list[tuple[str, Parameter]]] = []
    size = enough_bytes
    for name, parameter in reversed(parameters):
        if size >= enough_bytes:
            buckets.append([])
            size = 0.0
        buckets[-1].append((name, parameter))
        size += 4 * as_real(local(parameter)).numel()
    return buckets
