"""Gradients as they were when they were copied to be sent, to tell what is done to them since."""

from collections.abc import Sequence

from torch import Tensor

from thinwire.exchange import local


class Copied:
    """What the gradients of some parameters were at one moment.

    Args:
        parameters: whose gradients were copied just now.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._seen = [(parameter, *_state(parameter)) for parameter in parameters]

    def first_changed(self) -> Tensor | None:
        """Return the first parameter whose gradient is another, or was written to, since.

        What goes around autograd's version counter, as ``gradient.data.mul_(2)`` does, is not seen.
        """
        for parameter, gradient, version in self._seen:
            now, changes = _state(parameter)
            if now is not gradient or changes != version:
                return parameter
        return None


def _state(parameter: Tensor) -> tuple[Tensor | None, int]:
    gradient = parameter.grad
    return gradient, 0 if gradient is None else local(gradient)._version
