"""Alignments of all utterances: the place in its chain of every frame, and how they are found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.fillets.chain import STATES, Chain

Scores = Callable[[slice], NDArray[np.float32]]
"""Logarithms of likelihoods of some frames, [frames, classes]."""

_FRAMES_AT_ONCE = 20_000


@dataclass(frozen=True)
class Transitions:
    """Logarithms of the probabilities of staying in and leaving each state, float64 [states]."""

    stay: NDArray[np.float64]
    leave: NDArray[np.float64]


@dataclass(frozen=True)
class Round:
    """Alignments, and how good they are.

    Attributes:
        places: the place in its utterance's chain of each frame, int64 [frames].
        score: logarithm of the probability of the best ways, a frame.
    """

    places: NDArray[np.int64]
    score: float


@dataclass(frozen=True)
class Chains:
    """The chains of utterances, with the frames that go through them.

    Attributes:
        chains: of each utterance.
        begins: the first frame of each utterance, and behind them the number of all frames.
    """

    chains: Sequence[Chain]
    begins: NDArray[np.int64]

    def states(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the state of each frame, int64 [frames]."""
        return self._at(places, [chain.states for chain in self.chains])

    def contexts(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the phones before and behind that of each frame, int64 [frames] each."""
        left = self._at(places, [chain.left for chain in self.chains])
        return left, self._at(places, [chain.right for chain in self.chains])

    def _at(
        self, places: NDArray[np.int64], values: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.int64]:
        offsets = np.cumsum([0, *map(len, values[:-1])])
        return np.asarray(np.concatenate(values)[places + np.repeat(offsets, np.diff(self.begins))])

    def transitions(self, places: NDArray[np.int64]) -> Transitions:
        """Return how probable staying is, counted in alignments and smoothed."""
        states = self.states(places)
        stays = np.flatnonzero(np.diff(places) == 0)
        last = np.zeros(len(places), bool)
        last[self.begins[1:] - 1] = True
        stays = stays[~last[stays]]
        stayed = np.bincount(states[stays], minlength=STATES) + 1.0
        all_frames = np.bincount(states, minlength=STATES) + 2.0
        probability = stayed / all_frames
        return Transitions(np.log(probability), np.log1p(-probability))

    def align(
        self,
        scores: Scores,
        transitions: Transitions,
        tell: Callable[[float], None],
        class_of: Callable[[Chain], NDArray[np.int64]],
    ) -> Round:
        """Find the best alignment of every utterance.

        Args:
            scores: of frames for classes.
            transitions: of the states.
            tell: told which part is done, from 0 to 1.
            class_of: the classes of the places of a chain.
        """
        found: list[NDArray[np.int64]] = []
        total = 0.0
        for first, last in chunks(self.begins):
            base = int(self.begins[first])
            chunk = scores(slice(base, int(self.begins[last])))
            for number in range(first, last):
                chain = self.chains[number]
                rows = chunk[self.begins[number] - base : self.begins[number + 1] - base]
                way, score = chain.align(
                    rows[:, class_of(chain)],
                    transitions.stay[chain.states],
                    transitions.leave[chain.states],
                )
                found.append(way)
                total += score
            tell(last / len(self.chains))
        return Round(np.concatenate(found), total / max(1, int(self.begins[-1])))


def chunks(begins: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return ranges of utterances that have about so many frames that scores stay small."""
    group = begins[:-1] // _FRAMES_AT_ONCE
    edges = np.concatenate([[0], np.flatnonzero(np.diff(group)) + 1, [len(group)]])
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
