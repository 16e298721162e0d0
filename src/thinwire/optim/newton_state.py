"""What one Hessian-free iteration leaves to the next, and the form it is stored in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from thinwire.curvature import FlatParameters
from thinwire.optim.point import Point


@dataclass(frozen=True, eq=False)
class Carried:
    """The same on every worker; lambda apart, which is the parameter group's.

    Attributes:
        iteration: how many there were.
        gauss_newton_next: the hybrid method takes the Gauss-Newton matrix next.
        step: the last step, [P], if the next solve starts from it.
        point: what is known where the next iteration begins.
        passes: effective passes over the data so far.
    """

    iteration: int = 0
    gauss_newton_next: bool = False
    step: Tensor | None = None
    point: Point | None = None
    passes: float = 0.0

    def entries(
        self, flat: FlatParameters, residuals: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Each parameter's tensors and residuals, as ``HessianFree.state_dict`` stores them."""
        entries = [dict(entry) for entry in residuals]
        gradient = self.point.gradient if self.point else None
        for name, vector in (("step", self.step), ("gradient", gradient)):
            for i, piece in enumerate(flat.pieces(vector) if vector is not None else ()):
                entries[i][name] = piece
        if self.point is not None and self.point.fisher is not None:
            entries[0]["fisher"] = self.point.fisher
        return entries

    def counts(self) -> dict[str, Any]:
        """The rest, as JSON can say it."""
        return {
            "iteration": self.iteration,
            "gauss_newton_next": self.gauss_newton_next,
            "passes": self.passes,
            "loss": self.point.loss if self.point else None,
        }


def carried_from(
    entries: Sequence[Mapping[str, Any]], counts: Mapping[str, Any], flat: FlatParameters
) -> Carried:
    """What was stored, for parameters that hold the values of that time.

    Raises:
        ValueError: the tensors are not of the parameters' shapes.
    """
    step, gradient = (_join(name, entries, flat) for name in ("step", "gradient"))
    point = None
    if gradient is not None:
        fisher = entries[0].get("fisher")
        if fisher is not None:
            fisher = fisher.to(gradient)
        point = Point(flat.read(), counts["loss"], gradient, fisher)
    return Carried(counts["iteration"], counts["gauss_newton_next"], step, point, counts["passes"])


def _join(name: str, entries: Sequence[Mapping[str, Any]], flat: FlatParameters) -> Tensor | None:
    """One kind of the parameters' tensors as a flat vector; None where there is none."""
    known = [entry[name] for entry in entries if entry.get(name) is not None]
    if not known:
        return None
    got, expected = [[*t.shape] for t in known], [[*p.shape] for p in flat.parameters]
    if got != expected:
        raise ValueError(f"state_dict: {name}: expected tensors of shapes {expected}, got {got}")
    return flat.flatten(known).to(flat.parameters[0])
