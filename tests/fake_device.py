"""A device without hardware: tensors that claim to be elsewhere, and compute.

Each holds a tensor of the CPU and says its device is "meta", the only one besides the CPU that
every build of torch can differentiate on. A tensor of the CPU that meets one of the device is an
error, as on a GPU, and every value that comes to the host is noted. So a run shows that vectors
stay on the device, how often the host waits for it, and that results are the CPU's to the bit.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "meta"
_MOVES = ("aten._to_copy.default", "aten.copy_.default")
_TO_HOST = ("aten._local_scalar_dense.default", "aten.equal.default", "aten.is_nonzero.default")


class Away(Tensor):
    """A tensor of the device."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> "Away":
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            value.size(),
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=NAME,
        )
        tensor.value = value
        return tensor

    def __repr__(self) -> str:
        return f"Away({self.value})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func}: used outside of FakeDevice")


class FakeDevice(TorchDispatchMode):
    """While it is active, tensors may be made on, and moved to, the device.

    Attributes:
        reads: operators that brought a value to the host.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs, name = dict(kwargs or {}), str(func)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        away = [x for x in tensors if isinstance(x, Away)]
        strangers = [x for x in tensors if not isinstance(x, Away) and x.dim()]
        if away and strangers and name not in _MOVES:
            raise RuntimeError(f"{name}: tensors of the CPU and of the device meet")
        there = bool(away)
        if kwargs.get("device") is not None:
            there = torch.device(kwargs["device"]).type == NAME
            kwargs["device"] = "cpu"
        if away and (name in _TO_HOST or not there):
            self.reads.append(name)
        result = func(*tree_map(_value, args), **tree_map(_value, kwargs))
        if not func._schema.returns:
            return None
        if name == "aten.copy_.default" or func._schema.name.endswith("_") or "out" in kwargs:
            return args[0]  # in place
        return tree_map(lambda x: Away(x) if there and isinstance(x, Tensor) else x, result)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Away) else x
