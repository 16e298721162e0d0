"""Gradients as they were when they were copied to be sent, to tell what is done to them since."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thinwire.exchange import as_real, local

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
_State = tuple[Tensor | None, int, int]


class Copied:
    """What the gradients of some parameters were at one moment.

    Args:
        parameters: whose gradients were copied just now.
        closely: compare values, too, and so find what goes around autograd's version counter, as
            ``gradient.data.clamp_(-1, 1)`` and ``GradScaler.unscale_`` do. It takes two passes over
            the gradients.
    """

    def __init__(self, parameters: Sequence[Tensor], *, closely: bool) -> None:
        self._closely = closely
        self._seen = [(parameter, self._state(parameter)) for parameter in parameters]

    def first_changed(self) -> Tensor | None:
        """Return the first parameter whose gradient is another, or was written to, since."""
        for parameter, (gradient, version, digest) in self._seen:
            now, changes, present = self._state(parameter)
            if now is not gradient or changes != version or present != digest:
                return parameter
        return None

    def _state(self, parameter: Tensor) -> _State:
        gradient = parameter.grad
        if gradient is None:
            return None, 0, 0
        values = local(gradient)
        return gradient, values._version, _digest(values) if self._closely else 0


def _digest(values: Tensor) -> int:
    """A number that is another one for other bits, almost surely."""
    real = as_real(values.detach())
    bits = real.view(_INTEGERS[real.itemsize])
    return int(bits.sum(dtype=torch.int64))
