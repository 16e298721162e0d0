"""Hooks on parameters that call an optimiser without keeping it, of one optimiser at a time."""

import weakref
from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

_HOLDERS: WeakIdKeyDictionary = WeakIdKeyDictionary()  # parameter -> weakref of its GradientHooks


class GradientHooks:
    """The hooks of one optimiser.

    They end with this object, and no longer keep the optimiser alive than others do.

    Args:
        ready: a method of the optimiser, called with each parameter whose gradient is complete.
        lose: a method of the optimiser, called with the name of a parameter that another optimiser
            takes over. Both may not exchange the same gradient.
    """

    def __init__(self, ready: Callable[[Tensor], None], lose: Callable[[str], None]) -> None:
        self._ready, self._lose = weakref.WeakMethod(ready), weakref.WeakMethod(lose)
        self._handles: list[RemovableHandle] = []
        weakref.finalize(self, _remove, self._handles).atexit = False

    def add(self, name: str, parameter: Tensor) -> None:
        """Take over a parameter."""
        holder = _HOLDERS.get(parameter)
        former = holder() if holder is not None else None
        if former is not None and former is not self:
            former.lose(name)
        _HOLDERS[parameter] = weakref.ref(self)
        hook = partial(_call, self._ready)
        self._handles.append(parameter.register_post_accumulate_grad_hook(hook))

    def lose(self, name: str) -> None:
        """Tell the optimiser that it has lost a parameter, if it still has hooks."""
        lose = self._lose()
        if self._handles and lose is not None:
            lose(name)

    def remove(self) -> None:
        """Leave all parameters alone from now on."""
        _remove(self._handles)


def _call(ready: "weakref.WeakMethod[Callable[[Tensor], None]]", parameter: Tensor) -> None:
    method = ready()
    if method is not None:
        method(parameter)


def _remove(handles: list[RemovableHandle]) -> None:
    while handles:
        handles.pop().remove()
