"""Why a worker takes back gradients that it has sent, in words and as the number that travels.

A step's last packet carries the number (``exchange.packet.Header``), so every worker learns of it
before anything is applied, and all leave their residuals as they were.
"""

from collections.abc import Sequence

DISCARDED, RESTATED = range(2)
_CHANGED = 2  # and the parameter's number


class WithdrawnError(RuntimeError):
    """Gradients that were sent do not count, on any worker; the next step may."""


def changed(number: int) -> int:
    """Return the reason of a worker that has changed a parameter's gradient after it was sent."""
    return _CHANGED + number


def reasons(names: Sequence[str]) -> list[str]:
    """Return what each number means.

    Args:
        names: of the parameters.
    """
    return [
        "it discarded its gradients, by zero_grad() or discard(), where others take a step: every "
        "worker must do the same",
        "`samples` was changed after gradients had been sent: set it before backward",
        *(
            f"the gradient of {name!r} was changed, replaced or set to None after it had been "
            "sent. Clip by clip_norm=, and unscale or edit gradients under "
            "DistributedDataParallel with thinwire.compress; optimizer.zero_grad() discards what "
            "has been sent"
            for name in names
        ),
    ]
