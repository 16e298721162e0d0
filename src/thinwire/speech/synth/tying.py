"""Classes: states of phones told apart by their neighbours, as far as there are frames for it.

A state whose two neighbours occur together in many frames has a class of its own. The others back
off to the neighbour that the state is next to, and those that are still rare to no neighbour.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.classes import SILENCE
from thinwire.speech.synth.phones import PHONES

STATES = 3  # of a phone
_P = len(PHONES)
_SILENCE = PHONES.index(SILENCE)
CONTEXTS = _P * STATES * _P * _P
"""Number of states with both neighbours."""


def contexts_of(phones: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the number of each state with its neighbours, below ``CONTEXTS``: [phones, states].

    Beyond the ends of an utterance is silence.
    """
    own = phones.astype(np.int64)
    left = np.concatenate([[_SILENCE], own[:-1]])
    right = np.concatenate([own[1:], [_SILENCE]])
    state = own[:, None] * STATES + np.arange(STATES)
    contexts: NDArray[np.int64] = (state * _P + left[:, None]) * _P + right[:, None]
    return contexts


@dataclass(frozen=True)
class Tying:
    """Which class each state has.

    Attributes:
        class_of: of each state with its neighbours, int32 [CONTEXTS].
        phones: of each class.
        positions: which state of the phone, of each class.
    """

    class_of: NDArray[np.int32]
    phones: tuple[str, ...]
    positions: tuple[int, ...]


def tie(frames: NDArray[np.int64], classes: int) -> Tying:
    """Make at most so many classes.

    Every class with neighbours has at least as many frames as a threshold, which is as low as will
    do. Silence has no neighbours.

    Args:
        frames: of each state with its neighbours in training, [CONTEXTS].
        classes: at least ``STATES`` for each phone.
    """
    low, high = 1, int(frames.sum()) + 1  # high makes no class with neighbours
    while low < high:
        middle = (low + high) // 2
        names = _names(frames, middle)
        with_neighbours = len(np.unique(names[names >= _P * STATES]))
        if _P * STATES + with_neighbours <= classes:
            high = middle
        else:
            low = middle + 1
    return _number(_names(frames, high))


def _names(frames: NDArray[np.int64], threshold: int) -> NDArray[np.int64]:
    """Name the class of each state with its neighbours, [CONTEXTS].

    Names below P * STATES are those of states alone. Then come those with one neighbour, then
    those with two.
    """
    contexts = np.arange(CONTEXTS)
    state, left, right = contexts // _P**2, contexts // _P % _P, contexts % _P
    near = np.where(state % STATES == STATES - 1, right, left)
    pair = state * _P + near
    speaks = state // STATES != _SILENCE
    both = (frames >= threshold) & speaks
    rest = np.bincount(pair[~both], frames[~both], minlength=_P * STATES * _P)
    one = ~both & (rest[pair] >= threshold) & speaks
    names = np.where(one, _P * STATES + pair, state)
    return np.where(both, _P * STATES * (1 + _P) + contexts, names)


def _number(names: NDArray[np.int64]) -> Tying:
    """Number the classes, in the order of phones and positions; those alone come first."""
    state = np.arange(CONTEXTS) // _P**2
    found, first, class_of = np.unique(names, return_index=True, return_inverse=True)
    alone = np.setdiff1d(np.arange(_P * STATES), found)
    every = np.concatenate([found, alone])
    states = np.concatenate([state[first], alone])
    order = np.lexsort([every, states])
    number = np.empty(len(every), np.int32)
    number[order] = np.arange(len(every))
    return Tying(
        number[class_of.reshape(-1)],
        tuple(PHONES[each // STATES] for each in states[order]),
        tuple(int(each % STATES) for each in states[order]),
    )
