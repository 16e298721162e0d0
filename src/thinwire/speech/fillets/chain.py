"""The chain of states that an utterance goes through: its phones, and silence where it pauses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.classes import SILENCE
from thinwire.speech.fillets.phones import PHONES, Words
from thinwire.speech.viterbi import NEVER, align

POSITIONS = 3
"""States of every phone, and of silence."""
NAMES = (*PHONES, SILENCE)
"""All phones, silence last."""
STATES = POSITIONS * len(NAMES)
"""States of all phones; phone p has those from 3 p on."""

_NUMBER = {name: number for number, name in enumerate(NAMES)}
_SILENCE = _NUMBER[SILENCE]


@dataclass(frozen=True)
class Chain:
    """The states of an utterance in order; silence between words and at both ends is optional.

    Attributes:
        states: numbers of the states, int64 [places].
        left: number of the phone before, silence at the beginning, int64 [places].
        right: number of the phone behind, silence at the end, int64 [places].
        skip_from: as `viterbi.align` takes it, int64 [places].
    """

    states: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    skip_from: NDArray[np.int64]

    def align(
        self,
        scores: NDArray[np.float32],
        stay: NDArray[np.float64],
        leave: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], float]:
        """Find the best way of an utterance.

        Args:
            scores: how well each frame suits each place, [frames, places].
            stay: logarithm of the probability of staying in each place, [places].
            leave: of leaving it, [places].

        Returns:
            The place of each frame, int64 [frames], and the logarithm of the probability.
        """
        frames, places = scores.shape
        # The way ends in one more place, reached from the silence at the end or from before it.
        padded = np.full((frames + 1, places + 1), NEVER, np.float32)
        padded[:frames, :places] = scores
        padded[frames, places] = 0.0
        skips = np.append(self.skip_from, places - 1 - POSITIONS)
        way, total = align(padded, np.append(stay, NEVER), np.append(leave, 0.0), skips)
        return way[:-1], total


def make_chain(words: Words) -> Chain:
    """Return the chain of an utterance of these words."""
    phones = [_SILENCE]
    optional_before = [False]  # whether the silence in front of a phone may be left out
    for word in words:
        phones += [*(_NUMBER[phone] for phone in word), _SILENCE]
        optional_before += [True, *[False] * len(word)]
    numbers = np.array(phones)
    starts = np.flatnonzero(optional_before)
    skip_from = np.full(POSITIONS * len(numbers), -1)
    skip_from[POSITIONS * starts] = POSITIONS * (starts - 1) - 1
    skip_from[POSITIONS * starts[0]] = -2
    left, right = _neighbours(numbers)
    states = POSITIONS * np.repeat(numbers, POSITIONS) + np.tile(np.arange(POSITIONS), len(numbers))
    return Chain(states, np.repeat(left, POSITIONS), np.repeat(right, POSITIONS), skip_from)


def _neighbours(phones: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the phones before and behind each, over optional silence where there is a word."""
    spoken = np.flatnonzero(phones != _SILENCE)
    left, right = np.full((2, len(phones)), _SILENCE)
    left[spoken[1:]] = phones[spoken[:-1]]
    right[spoken[:-1]] = phones[spoken[1:]]
    return left, right
