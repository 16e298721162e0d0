"""Which minibatch sizes to try, and which of those tried to take (S section 4).

At any point of training there is a size above which convergence slows or fails. It is found by
trying: the next samples are trained on with each size of a ladder, always from the same state
(``thinwire.optim.Snapshot``), and the largest size that does no harm is kept.
"""

import math
from collections.abc import Mapping


def ladder(current: int, growth: float, largest: int, multiple: int = 1) -> list[int]:
    """The sizes to try: half the present one, itself, twice it, ... and ``growth`` times it.

    Args:
        current: samples in a minibatch now, over all workers.
        growth: how many times larger the next size may be, >= 1.
        largest: no size is larger.
        multiple: sizes are rounded down to multiples of it (the number of workers), but never to 0.

    Returns:
        The sizes in rising order, each once.

    Raises:
        ValueError: an argument out of range.

    >>> ladder(256, growth=4, largest=8192, multiple=6)
    [126, 252, 510, 1020]
    """
    for name, value in {"current": current, "growth": growth, "multiple": multiple}.items():
        if value < 1:
            raise ValueError(f"{name}: expected >= 1, got {value}")
    top = int(growth * current)
    rungs = [current // 2, current]
    while 2 * rungs[-1] < top:
        rungs.append(2 * rungs[-1])
    fitting = (min(size, largest) // multiple * multiple for size in (*rungs, top))
    return sorted({max(size, multiple) for size in fitting})


def choose(accuracies: Mapping[int, float], margin: float) -> int:
    """The largest size whose accuracy is not worse than the best by more than a margin.

    Args:
        accuracies: of each size tried, the fraction of right answers over the same training
            samples; NaN or an infinity where training failed.
        margin: what counts as no harm, a fraction.

    Returns:
        A size; the smallest where training failed with all.

    Raises:
        ValueError: no size was tried, or a negative margin.

    >>> choose({256: 0.910, 512: 0.912, 1024: 0.909, 2048: 0.874}, margin=0.005)
    1024
    """
    if not accuracies:
        raise ValueError("accuracies: expected at least one size, got none")
    if not margin >= 0:
        raise ValueError(f"margin: expected >= 0, got {margin}")
    finite = {size: value for size, value in accuracies.items() if math.isfinite(value)}
    if not finite:
        return min(accuracies)
    best = max(finite.values())
    return max(size for size, value in finite.items() if value >= best - margin)
