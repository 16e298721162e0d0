"""Which form of the empirical Fisher matrix preconditions a model's solves."""

from dataclasses import dataclass

from torch import Tensor

from thinwire.curvature import FisherKind, FlatModel, kronecker_layers
from thinwire.optim.descent import CurvatureMatrix
from thinwire.optim.newton_options import Preconditioning
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


def fisher_form(option: Preconditioning, model: FlatModel, *, striped: bool) -> FisherForm | None:
    """What an option means for a model.

    Args:
        option: see ``HessianFree``.
        model: what is trained.
        striped: whether workers hold parts of the solver's vectors.

    Raises:
        ValueError: Kronecker factors were asked for, and do not apply.
    """
    if option == "none":
        return None
    layers = kronecker_layers(model)
    factors = FisherForm("kronecker", tuple(layers or ()))
    if option == "auto":
        narrow = layers and all(max(x.width, x.outputs) <= WIDEST for x in layers)
        return factors if narrow and not striped else FisherForm("diagonal")
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
    return factors if option == "kronecker" else FisherForm("diagonal")
