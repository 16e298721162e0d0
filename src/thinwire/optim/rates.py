"""Learning rate and momentum stated per sample, converted to the minibatch at hand.

The paper lets the minibatch size change during training and keeps its rates per sample
(S section 2, eq. (1): the learning rate multiplies a *sum* over samples). The momentum of a
minibatch of N samples is then m(N) = exp(-N / tau) with a time constant tau in samples.
"""

import math


def momentum_from_time_constant(samples: float, batch_size: int) -> float:
    """The momentum per minibatch that forgets with a time constant in samples.

    Args:
        samples: time constant tau; 0 is no momentum.
        batch_size: samples in a minibatch, over all workers, N.

    Returns:
        m = exp(-N / tau).

    Raises:
        ValueError: a negative time constant or a batch of less than one sample.

    Examples:
        >>> [round(momentum_from_time_constant(2500, n), 2) for n in (256, 1024, 4096)]
        [0.9, 0.66, 0.19]
    """
    if samples < 0 or batch_size < 1:
        raise ValueError(
            f"expected a time constant >= 0 and a batch size >= 1, got {samples} and {batch_size}"
        )
    return math.exp(-batch_size / samples) if samples > 0 else 0.0


def rates_for_batch(
    lr: float, momentum: float, stated_for: int | None, samples: float, *, normalised: bool
) -> tuple[float, float]:
    """Convert rates stated for one minibatch size to another.

    Momentum keeps its time constant in samples: m' = m^(N'/N). A minibatch's mean gradient moves
    the model by lr / (1 - m) in all, so what one sample contributes, lr / ((1 - m) N), is kept:
    lr' = lr (N'/N) (1 - m') / (1 - m). AdaGrad's normalised steps do not grow with the number of
    samples in them, but with the square root of the minibatch size through the smaller number of
    terms in its sum, hence (N'/N)^(1/2) there.

    Args:
        lr: learning rate on the mean gradient of a minibatch of ``stated_for`` samples.
        momentum: momentum for such a minibatch, 0 <= m < 1 (v = m v + g).
        stated_for: N; None: the rates hold for any minibatch as they are.
        samples: N', samples in the minibatch at hand, over all workers.
        normalised: whether AdaGrad divides the gradients.

    Returns:
        (lr', m').

    Examples:
        >>> lr, m = rates_for_batch(0.06, 0.9, 256, 512, normalised=False)
        >>> round(lr, 4), round(m, 2)
        (0.228, 0.81)
    """
    rates = rates_of_step(lr, momentum, stated_for, samples, normalised=normalised)
    rate, converted, weight = rates
    return rate * weight, converted


def rates_of_step(
    lr: float, momentum: float, stated_for: int | None, samples: float, *, normalised: bool
) -> tuple[float, float, float]:
    """The rates of ``rates_for_batch`` in a form in which the minibatch size may change.

    Momentum's sum v = m' v + g settles at g / (1 - m'), so it would have to be rescaled where N'
    changes. As v = m' v + w g with w = (1 - m') / (1 - m) it settles at g / (1 - m) whatever N' is,
    and with the update r v, where r w = lr', a sample moves the model as far as before.

    Args:
        lr: as for ``rates_for_batch``, and so on.
        momentum: of the stated size, m.
        stated_for: N, or None.
        samples: N'.
        normalised: whether AdaGrad divides the gradients.

    Returns:
        (r, m', w).
    """
    if stated_for is None or samples == stated_for:
        return lr, momentum, 1.0
    ratio = samples / stated_for
    converted = momentum**ratio if momentum > 0 else 0.0
    scale = math.sqrt(ratio) if normalised else ratio
    return lr * scale, converted, (1 - converted) / (1 - momentum)
