"""How far to go: the Armijo condition, of second order where the curvature is negative."""

import math
from collections.abc import Sequence

from thinwire.search.direction import Direction

C = 1e-2  # share of the promised decrease that must be kept (Martens 2010)


def sufficient(f0: float, f: float, alpha: float, direction: Direction, c: float = C) -> bool:
    """Whether f(theta + alpha d) is low enough.

        f <= f0 + c alpha g.d                              (H Algorithm 2, line 8)
        f <= f0 + c (alpha g.d + alpha^2 d.Cd / 2)         along negative curvature

    The second also makes sense at a saddle, where g.d = 0. A loss that is not finite never is.
    """
    promised = alpha * direction.slope
    if direction.curvature < 0:
        promised += alpha**2 * direction.curvature / 2
    return math.isfinite(f) and f <= f0 + c * promised


def largest_sufficient(
    f0: float, losses: Sequence[float], alphas: Sequence[float], direction: Direction
) -> int | None:
    """The index of the largest step that is sufficient; None if none is."""
    good = [i for i, f in enumerate(losses) if sufficient(f0, f, alphas[i], direction)]
    return max(good, key=lambda i: alphas[i]) if good else None


def lowest_sufficient(
    f0: float, losses: Sequence[float], alphas: Sequence[float], direction: Direction
) -> int | None:
    """The index of the sufficient step with the lowest loss; None if none is sufficient."""
    good = [i for i, f in enumerate(losses) if sufficient(f0, f, alphas[i], direction)]
    return min(good, key=lambda i: losses[i]) if good else None
