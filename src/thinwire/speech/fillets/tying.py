"""States told apart by the phones around them, and put together again where that tells little.

Each state of each phone has a tree of questions, about the phone before it or behind it. Of all
trees, the leaf is divided that gains most likelihood under a Gaussian for each leaf, until there
are as many leaves, or classes, as wanted. Silence is not divided.
"""

import heapq
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.classes import SILENCE, Classes
from thinwire.speech.fillets.chain import NAMES, POSITIONS, STATES, Chain

LEAST_FRAMES = 80
"""Frames that a class has at least."""

_LEAST_VARIANCE = 0.01
_SETS = (
    "a aa e ee i ii o u uu ou",
    "aa ee ii uu ou",
    "a e i o u",
    "i ii e ee",
    "i ii",
    "e ee",
    "a aa",
    "o u uu ou",
    "p b t d ty dy k g",
    "b d dy g",
    "p t ty k",
    "p b m",
    "p b m f v",
    "f v",
    "t d n",
    "t d n s z ts l r",
    "ty dy ny j",
    "k g x h",
    "s z ts",
    "sh zh ch rz rs",
    "ty dy ny j i ii sh zh ch rz rs",
    "s z ts sh zh ch rz rs",
    "f s sh x ts ch rs",
    "v z zh h rz",
    "f v s z sh zh x h rz rs",
    "ts ch",
    "m n ny",
    "r l",
    "r rz rs",
    "m n ny r l j v",
    "p t ty k f s sh x ts ch rs",
    "b d dy g v z zh h rz",
    "k g",
    "x h",
    "r",
    "l",
    "j",
    "m",
    "n",
    "o ou",
    "u uu",
    SILENCE,
)


@dataclass(frozen=True)
class Tying:
    """Which class each state in each context belongs to.

    Attributes:
        table: int64 [states, phones, phones], by state, phone before and phone behind.
    """

    table: NDArray[np.int64]

    @property
    def classes(self) -> Classes:
        """The classes, which `table` numbers."""
        state_of = np.zeros(int(self.table.max()) + 1, np.int64)
        for state, numbers in enumerate(self.table):
            state_of[numbers] = state
        return Classes(
            tuple(NAMES[state // POSITIONS] for state in state_of),
            tuple(int(state % POSITIONS) for state in state_of),
        )

    def of_chain(self, chain: Chain) -> NDArray[np.int64]:
        """Return the classes of the places of a chain."""
        return np.asarray(self.table[chain.states, chain.left, chain.right])


def untied() -> Tying:
    """Return a tying with a class for each state."""
    shape = (STATES, len(NAMES), len(NAMES))
    return Tying(np.broadcast_to(np.arange(STATES)[:, None, None], shape))


def grow(
    frames: NDArray[np.float32],
    states: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    wanted: int,
) -> Tying:
    """Return a tying of at most so many classes, as many as there are enough frames for.

    Args:
        frames: features, [frames, values].
        states: the state of each frame.
        left: the phone before that of each frame.
        right: the phone behind it.
        wanted: number of classes; one for each state at the least.
    """
    found = _Leaves(frames, states, left, right)
    while len(found) < wanted and found.divide_best():
        pass
    return Tying(found.table)


@cache
def _questions() -> NDArray[np.bool_]:
    """Return which contexts (phone before * phones + phone behind) each question is true of."""
    sets = np.array([[name in names.split() for name in NAMES] for names in _SETS])
    everything = np.ones(len(NAMES), bool)
    before = (sets[:, :, None] & everything).reshape(len(sets), -1)
    behind = (everything[:, None] & sets[:, None, :]).reshape(len(sets), -1)
    return np.concatenate([before, behind])


class _Leaves:
    """The leaves of all trees so far, and the best question of each."""

    def __init__(
        self,
        frames: NDArray[np.float32],
        states: NDArray[np.int64],
        left: NDArray[np.int64],
        right: NDArray[np.int64],
    ) -> None:
        phones = len(NAMES)
        contexts = phones * phones
        self._numbers = np.repeat(np.arange(STATES), contexts).reshape(STATES, contexts)
        self._sums = _sums(frames, (states * phones + left) * phones + right, STATES * contexts)
        self._count = STATES
        # Of leaves that can be divided: the gain, negative, leaf, state, and the question.
        self._best: list[tuple[float, int, int, int]] = []
        for state in range(STATES - POSITIONS):
            self._ask(state, state)

    def __len__(self) -> int:
        return self._count

    @property
    def table(self) -> NDArray[np.int64]:
        """The leaf of each state in each context, [states, phones, phones]."""
        return self._numbers.reshape(STATES, len(NAMES), len(NAMES))

    def divide_best(self) -> bool:
        """Divide the leaf that gains most; false if none can be divided."""
        if not self._best:
            return False
        _, leaf, state, question = heapq.heappop(self._best)
        true = (self._numbers[state] == leaf) & _questions()[question]
        self._numbers[state, true] = self._count
        self._ask(leaf, state)
        self._ask(self._count, state)
        self._count += 1
        return True

    def _ask(self, leaf: int, state: int) -> None:
        """Find the best question for a leaf."""
        contexts = np.flatnonzero(self._numbers[state] == leaf)
        sums = self._sums[state * len(_questions()[0]) + contexts]
        seen = sums[:, 0] > 0
        sums = sums[seen]
        true = _questions()[:, contexts[seen]].astype(np.float64) @ sums
        false = sums.sum(0) - true
        gain = _likelihood(true) + _likelihood(false) - _likelihood(sums.sum(0)[None])
        gain[np.minimum(true[:, 0], false[:, 0]) < LEAST_FRAMES] = 0.0
        question = int(gain.argmax())
        if gain[question] > 0.0:
            heapq.heappush(self._best, (-float(gain[question]), leaf, state, question))


def _sums(frames: NDArray[np.float32], keys: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return number, sum and sum of squares of the frames of each key, [keys, 1 + 2 * values]."""
    order = np.argsort(keys, kind="stable")
    found, begins = np.unique(keys[order], return_index=True)
    values = frames[order].astype(np.float64)
    ones = np.ones((len(values), 1))
    totals = np.zeros((count, 1 + 2 * frames.shape[1]))
    if len(found):
        totals[found] = np.add.reduceat(np.concatenate([ones, values, values**2], 1), begins)
    return totals


def _likelihood(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the likelihood of frames under a Gaussian, up to what sums keep.

    Args:
        sums: number, sum and sum of squares of the frames, [sets, 1 + 2 * values].
    """
    values = (sums.shape[1] - 1) // 2
    count = np.maximum(sums[:, :1], 1.0)
    means = sums[:, 1 : values + 1] / count
    variances = np.maximum(sums[:, values + 1 :] / count - means**2, _LEAST_VARIANCE)
    return np.asarray(-0.5 * sums[:, 0] * np.log(variances).sum(1))
