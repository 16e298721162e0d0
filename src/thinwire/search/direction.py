"""Which way to go: a solver's iterates, turned downhill and told apart by their curvature.

H, "Dealing with Negative Curvature".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from thinwire.solve import Iterate

Kind = Literal["newton", "negative curvature", "probe", "gradient", "none"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FLAT = 1e-8  # |g.d| / (|g| |d|) below which a direction counts as level


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction of descent and the quadratic model along it.

    Attributes:
        d: [P].
        slope: g.d, not positive.
        curvature: d.Cd, undamped.
        square: d.d.
        damping: lambda of the model that the solver minimised.
        kind: "newton" where d.Cd > 0, "negative curvature" where it is not; "probe" for negative
            curvature that a random probe found, "gradient" for -g where a solver gave nothing.
            The length of these two means nothing. "none" at a stationary point, where d = 0.
    """

    d: Tensor
    slope: float
    curvature: float
    square: float
    damping: float
    kind: Kind

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """All but the vector."""
        return self.slope, self.curvature, self.square, self.damping

    def model(self, alpha: float) -> float:
        """m(alpha d) = alpha g.d + alpha^2 d.Bd / 2 (H eq. (1) without its constant)."""
        return alpha * self.slope + alpha**2 * (self.curvature + self.damping * self.square) / 2


def turned(
    known: Sequence[tuple[Iterate, float, float]], *, damping: float, gradient_square: float
) -> list[Direction]:
    """d~ = -sgn(g.d) d with sgn(0) = +1, so that none goes uphill.

    The curvature needs no product: with b = -g, m(x) = g.x + x.Bx / 2.

    Args:
        known: iterates, each with g.x and x.x.
        damping: lambda.
        gradient_square: g.g.

    Returns:
        One direction for each iterate but those that are zero, or level without being of negative
        curvature.
    """
    directions = []
    for iterate, slope, square in known:
        curvature = 2 * (iterate.model - slope) - damping * square
        level = abs(slope) < FLAT * (gradient_square * square) ** 0.5
        if square <= 0 or (level and curvature >= 0):
            continue
        sign = -1.0 if slope >= 0 else 1.0
        kind: Kind = "newton" if curvature > 0 else "negative curvature"
        directions.append(
            Direction(sign * iterate.x, -abs(slope), curvature, square, damping, kind)
        )
    return directions
