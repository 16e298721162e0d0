"""What one may ask of ``HessianFree``, checked."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any, Literal, get_args

from torch import Tensor

from thinwire.optim.group_codes import code_name
from thinwire.quantize import Code

Method = Literal["gauss-newton", "bicgstab", "hybrid", "cg"]
Curvature = Literal["replicated", "sharded", "auto"]
Preconditioning = Literal["auto", "kronecker", "diagonal", "none"]
SolverVectors = Literal["replicated", "sharded"]

_CHOICES = {
    "method": Method,
    "curvature": Curvature,
    "preconditioner": Preconditioning,
    "solver_vectors": SolverVectors,
}


@dataclass(frozen=True, kw_only=True)
class NewtonOptions:
    """The arguments of ``HessianFree``, by the same names.

    Raises:
        ValueError: one is out of range, or two do not go together.
    """

    method: Method
    damping: float | None
    adapt_damping: bool
    solver_iterations: int | None
    curvature_batch: int
    curvature: Curvature
    warm_start: float
    preconditioner: Preconditioning
    least_cosine: float
    solver_vectors: SolverVectors
    gradient_code: str | Code
    product_code: str | Code
    seed: int

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value, allowed = getattr(self, name), get_args(choices)
            if value not in allowed:
                raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
        if self.solver_vectors == "sharded" and self.curvature != "sharded":
            raise ValueError(
                f'solver_vectors: "sharded" needs curvature="sharded", got {self.curvature!r}'
            )
        if self.damping is not None and not self.damping > 0:
            raise ValueError(f"damping: expected > 0, got {self.damping}")
        for name in ("solver_iterations", "curvature_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected >= 1, got {value}")
        if not 0 <= self.warm_start <= 1:
            raise ValueError(f"warm_start: expected 0 to 1, got {self.warm_start}")
        if not 0 <= self.least_cosine < 1:
            raise ValueError(f"least_cosine: expected 0 to below 1, got {self.least_cosine}")
        if self.least_cosine and self.method != "bicgstab":
            raise ValueError(
                f'least_cosine: expected 0 unless method="bicgstab", got {self.method!r}'
            )

    def facts(self, named: Sequence[tuple[str, Tensor]]) -> dict[str, Any]:
        """Return what must be the same on every worker.

        Args:
            named: names and parameters.
        """
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        codes = {name: code_name(options[name]) for name in ("gradient_code", "product_code")}
        return {
            "the version of thinwire": version("thinwire"),
            **options,
            **codes,
            "the list of parameters": [name for name, _ in named],
            "the list of their shapes": [[*parameter.shape] for _, parameter in named],
            "the list of their dtypes": [parameter.dtype for _, parameter in named],
            "the list of frozen parameters": [n for n, p in named if not p.requires_grad],
        }

    @property
    def first_damping(self) -> float:
        """Lambda of the first iteration."""
        if self.damping is not None:
            return self.damping
        return 0.03 if self.method in ("gauss-newton", "bicgstab") else 0.1

    def iterations(self, preconditioning: str | None) -> int:
        """What a solve is worth with this preconditioner, if not given."""
        unaided = 10 if self.method == "bicgstab" else 20
        usual = {"kronecker": 5, "diagonal": 10, None: unaided}[preconditioning]
        return self.solver_iterations or usual

    def takes_hessian(self, gauss_newton_next: bool) -> bool:
        """Whether an iteration's matrix is the exact Hessian.

        Args:
            gauss_newton_next: the hybrid method met negative curvature in the iteration before.
        """
        if self.method == "hybrid":
            return not gauss_newton_next
        return self.method != "gauss-newton"
