"""The most probable way of an utterance through a chain of states (Viterbi)."""

import numpy as np
from numpy.typing import NDArray

NEVER = -1e30  # the logarithm of a probability of 0, with which sums stay finite


def align(
    scores: NDArray[np.floating],
    stay: NDArray[np.floating],
    leave: NDArray[np.floating],
    skip_from: NDArray[np.integer] | None = None,
) -> tuple[NDArray[np.int64], float]:
    """Find the best way through a chain of states.

    An utterance begins in state 0 (or in a state that may follow the beginning), ends in the last
    one, and each frame stays in its state or goes to the next. A state may have one more
    predecessor, which makes those between them optional, such as silence between words.

    Args:
        scores: logarithms of likelihoods, [frames, states]: how well each frame suits each state.
        stay: logarithm of the probability that a frame is followed by one of the same state,
            [states].
        leave: of the other case, [states].
        skip_from: for each state the number of its other predecessor; -1: none; -2: the
            utterance may begin there. [states].

    Returns:
        The state of each frame, int64 [frames], and the logarithm of the probability of this way.

    Raises:
        ValueError: there are fewer frames than states on the shortest way.
    """
    frames, states = scores.shape
    other = np.full(states, -1) if skip_from is None else np.asarray(skip_from)
    jumps = np.flatnonzero(other >= 0)
    sources = other[jumps]
    best = np.full(states, NEVER)
    best[0] = scores[0, 0] if frames else NEVER
    if frames:
        best[other == -2] = scores[0, other == -2]
    came_from = np.empty((frames, states), np.int32)
    own = np.arange(states, dtype=np.int32)
    before = own - 1
    arriving = np.full(states, NEVER)
    for frame in range(1, frames):
        staying, leaving = best + stay, best + leave
        arriving[1:] = leaving[:-1]
        source = before.copy()
        if len(jumps):
            jumping = leaving[sources]
            better = jumping > arriving[jumps]
            arriving[jumps[better]] = jumping[better]
            source[jumps[better]] = sources[better]
        moved = arriving > staying
        came_from[frame] = np.where(moved, source, own)
        best = np.where(moved, arriving, staying) + scores[frame]
    if not frames or best[-1] <= NEVER / 2:
        raise ValueError(f"expected at least a frame for every state, got {frames} for {states}")
    way = np.empty(frames, np.int64)
    way[-1] = states - 1
    for frame in range(frames - 1, 0, -1):
        way[frame - 1] = came_from[frame, way[frame]]
    return way, float(best[-1])
