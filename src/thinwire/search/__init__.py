"""Choosing a direction, a step length, the damping, a minibatch size: pure functions."""

from thinwire.search.armijo import C, largest_sufficient, lowest_sufficient, sufficient
from thinwire.search.damping import after_failure, after_step
from thinwire.search.direction import KINDS, Direction, Kind, turned
from thinwire.search.minibatch_size import choose, ladder

__all__ = [
    "KINDS",
    "C",
    "Direction",
    "Kind",
    "after_failure",
    "after_step",
    "choose",
    "ladder",
    "largest_sufficient",
    "lowest_sufficient",
    "sufficient",
    "turned",
]
