"""Which form of the empirical Fisher matrix preconditions a model's solves."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from thinwire.curvature import FisherKind, FlatModel, Samples, kronecker_layers
from thinwire.optim.descent import CurvatureMatrix
from thinwire.optim.newton_options import Preconditioning
from thinwire.optim.objective import Objective
from thinwire.solve import LinearLayer, Preconditioner, jacobi, kronecker

WIDEST = 4096  # layers up to so wide get Kronecker factors by themselves


@dataclass(frozen=True)
class FisherForm:
    """A form of the Fisher matrix.

    Attributes:
        kind: "diagonal" or "kronecker".
        layers: whose factors they are.
    """

    kind: FisherKind
    layers: tuple[LinearLayer, ...] = ()

    def inverse(self, fisher: Tensor, B: CurvatureMatrix) -> Preconditioner:
        """An approximate inverse of B, for the vectors that the solver holds."""
        if self.kind == "diagonal":
            return jacobi(B.part(fisher), B.damping)
        return kronecker(fisher, self.layers, B.damping)


def fisher_forms(
    option: Preconditioning, model: FlatModel, *, striped: bool
) -> list[FisherForm | None]:
    """What an option means for a model: for "auto" several, of which to take the first that fits.

    Args:
        option: see ``HessianFree``.
        model: what is trained.
        striped: whether workers hold parts of the solver's vectors.

    Raises:
        ValueError: Kronecker factors were asked for, and do not apply.
    """
    if option == "none":
        return [None]
    layers = kronecker_layers(model)
    factors = FisherForm("kronecker", tuple(layers or ()))
    if option == "auto":
        narrow = layers and all(max(x.width, x.outputs) <= WIDEST for x in layers)
        return [*([factors] if narrow and not striped else []), FisherForm("diagonal"), None]
    if option == "kronecker" and layers is None:
        raise ValueError(
            'preconditioner: "kronecker" needs a model all of whose parameters are those of '
            'linear layers; use "diagonal"'
        )
    if option == "kronecker" and striped:
        raise ValueError(
            'preconditioner: "kronecker" needs whole vectors; with solver_vectors="sharded" '
            'use "diagonal"'
        )
    return [factors if option == "kronecker" else FisherForm("diagonal")]


def first_that_fits(
    forms: Sequence[FisherForm | None], objective: Objective, model: FlatModel
) -> int:
    """Try forms of the Fisher matrix on two samples; return the index of the first that works.

    Args:
        forms: of ``fisher_forms``. A form that there is no alternative to is not tried, so that its
            error is the user's to read.
        objective: whose samples are taken; where this worker has none, every form fits.
        model: what is trained.
    """
    for i, form in enumerate(forms[:-1]):
        if form is None or not objective.samples:
            return i
        inputs, targets = objective.rows(range(min(2, objective.samples)))
        try:
            Samples(model, objective.loss, [(inputs, targets)], 1).fisher(model.read(), form.kind)
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            continue
        return i
    return len(forms) - 1


def told(forms: Sequence[FisherForm | None], taken: int) -> str:
    """What people should know of the choice; nothing if the first form fits."""
    if not taken:
        return ""
    names = ["none" if form is None else form.kind for form in forms]
    return f"preconditioner: {names[0]!r} does not fit this model; {names[taken]!r} was taken"
