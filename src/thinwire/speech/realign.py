"""Aligning anew: the same states in the same order, with boundaries where a network sees them.

Both papers call it to realign [Seide 2014, section 4.4]. What an utterance consists of is taken
from its alignment so far, so that neither words nor a pronunciation dictionary are needed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.viterbi import align


@dataclass(frozen=True, eq=False)
class Durations:
    """How probable it is that a frame is followed by one of the same state.

    Attributes:
        stay: logarithm of that, float64 [classes].
        leave: logarithm of the contrary, float64 [classes].
    """

    stay: NDArray[np.float64]
    leave: NDArray[np.float64]


def durations(frames_of: NDArray[np.int64], visits_of: NDArray[np.int64]) -> Durations:
    """Take durations from alignments.

    Args:
        frames_of: frames of each class, [classes].
        visits_of: how many stretches of frames each class has, [classes].
    """
    leaving = (visits_of + 1) / (frames_of + 2)  # neither 0 nor 1
    return Durations(np.log1p(-leaving), np.log(leaving))


def stretches(alignment: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the classes of an utterance in order, each stretch of equal ones once."""
    new = np.flatnonzero(np.diff(alignment)) + 1
    found: NDArray[np.int64] = np.asarray(alignment, np.int64)[np.concatenate([[0], new])]
    return found


def realign(
    scores: NDArray[np.floating], alignment: NDArray[np.integer], known: Durations
) -> NDArray[np.int64]:
    """Move the boundaries of an utterance's states to where they suit best.

    Args:
        scores: logarithms of likelihoods, [frames, classes].
        alignment: classes so far, [frames].
        known: durations of states.

    Returns:
        Classes, int64 [frames]: the same ones in the same order.
    """
    chain = stretches(alignment)
    way, _ = align(scores[:, chain], known.stay[chain], known.leave[chain])
    found: NDArray[np.int64] = chain[way]
    return found
