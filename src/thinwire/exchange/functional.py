"""What torch itself sends between model ranks: DTensor's collectives, entered in the ledger."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from thinwire.exchange.wire import Wire


def _all_reduce(size: int, world: int) -> int:
    return 2 * (world - 1) * size // world


def _all_gather(size: int, world: int) -> int:
    return (world - 1) * size


def _reduce_scatter(size: int, world: int) -> int:
    return (world - 1) * size // world


# bytes a ring sends from one rank, of the bytes of its input
_SENT: dict[str, Callable[[int, int], int]] = {
    "all_reduce": _all_reduce,
    "all_reduce_": _all_reduce,
    "all_gather_into_tensor": _all_gather,
    "reduce_scatter_tensor": _reduce_scatter,
}


class CountCollectives(TorchDispatchMode):
    """While active on a thread, enters the functional collectives of one group in a ledger.

    DTensor issues these, in forward, backward and redistribution. They are seen as they are called,
    with the tensors they are given; the ledger enters what a ring sends of them, as for
    ``Wire.all_reduce``.

    Args:
        wire: the group, and the ledger.
        stage: where the ledger enters them.
    """

    def __init__(self, wire: Wire, stage: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._wire, self._stage = wire, stage

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count a collective of plain tensors; a DTensor's operation first becomes such."""
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented
        if getattr(func, "namespace", "") == "_c10d_functional":
            groups = [name for name in args if isinstance(name, str)]
            if self._own_group in groups:
                self._count(func.__name__.split(".")[0], args[0])
        return func(*args, **(kwargs or {}))

    @property
    def _own_group(self) -> str:
        assert self._wire.group is not None
        return self._wire.group.group_name

    def _count(self, name: str, tensor: Tensor) -> None:
        if name not in _SENT:
            raise RuntimeError(f"a collective that the ledger cannot count: {name}")
        world = self._wire.world
        sent = _SENT[name](tensor.numel() * tensor.itemsize, world)
        messages = 2 * (world - 1) if name.startswith("all_reduce") else world - 1
        self._wire.ledger.record(self._stage, messages=messages, bytes=sent)
