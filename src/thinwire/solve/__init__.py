"""Krylov solvers for B x = b: pure, on flat vectors and a product; they never communicate."""

from thinwire.solve.bicgstab import bicgstab
from thinwire.solve.cg import cg
from thinwire.solve.lanczos import most_negative
from thinwire.solve.operator import Matrix, Operator, as_operator
from thinwire.solve.preconditioner import LinearLayer, Preconditioner, jacobi, kronecker
from thinwire.solve.solution import Iterate, Outcome, Solution

__all__ = [
    "Iterate",
    "LinearLayer",
    "Matrix",
    "Operator",
    "Outcome",
    "Preconditioner",
    "Solution",
    "as_operator",
    "bicgstab",
    "cg",
    "jacobi",
    "kronecker",
    "most_negative",
]
