"""A bucket under an optimiser: parameters of one param group, and the owner's state for them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange import ParameterBucket, local
from thinwire.optim.postprocess import LocalAdaGrad, State
from thinwire.quantize import to_wire


class GroupBucket:
    """Parameters that are exchanged together and whose rates are the same.

    Args:
        group: the optimiser's param group, whose rates apply.
        exchange: how its sub-gradients and updates travel.
        state_names: the tensors of the owner's post-processing state.

    Attributes:
        group: see above; loading a state dict replaces it.
        exchange: see above.
        state_names: see above.
        state: those tensors, over the run of values this worker owns; missing ones are zero.
        scalars: the part of that state that is not per value, such as a count of steps.
        local: worker-side AdaGrad, if asked for.
        waiting: parameters whose gradient this step still lacks.
        held: the owned run of the parameters as it was when a step began, as long as that step's
            exchange goes on beside whatever the script does to them.
        pending: float32 ``[values]``, an update that has arrived and is not applied yet; None
            until double buffering needs it.
    """

    def __init__(
        self, group: dict[str, Any], exchange: ParameterBucket, state_names: Sequence[str]
    ) -> None:
        self.group, self.exchange, self.state_names = group, exchange, list(state_names)
        self.space = exchange.space
        self.state: State = {}
        self.scalars: dict[str, float] = {}
        self.local: LocalAdaGrad | None = None
        if group.get("adagrad") == "local":
            device = exchange.scratch.device
            self.local = LocalAdaGrad(self.space.values, group["eps"], device)
        self.waiting: set[Tensor] = set(self.parameters)
        self.held: Tensor | None = None
        self.pending: Tensor | None = None

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
        """Copy every parameter's ``grad`` to the exchange's input; a missing gradient is 0."""
        self.exchange.collect([parameter.grad for parameter in self.exchange.parameters])
        if self.local is not None:
            self.local.normalise(self.scratch)

    def commit_local(self) -> None:
        """Keep worker-side AdaGrad's sums, if there are any."""
        if self.local is not None:
            self.local.commit()

    def store(self, values: Tensor) -> None:
        """Overwrite the parameters by ``values`` ([values])."""
        torch._foreach_copy_(self.exchange.shards, self.space.views(values))

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
        size += 4 * local(parameter).numel()
    return buckets
