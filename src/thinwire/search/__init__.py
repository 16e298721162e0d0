"""Choosing a direction, a step length and the damping: pure functions of numbers and vectors."""

from thinwire.search.armijo import C, largest_sufficient, lowest_sufficient, sufficient
from thinwire.search.damping import after_failure, after_step
from thinwire.search.direction import KINDS, Direction, Kind, turned

__all__ = [
    "KINDS",
    "C",
    "Direction",
    "Kind",
    "after_failure",
    "after_step",
    "largest_sufficient",
    "lowest_sufficient",
    "sufficient",
    "turned",
]
