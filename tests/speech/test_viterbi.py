"""The best way through a chain of states, against all ways there are."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from thinwire.speech.realign import durations, realign, stretches
from thinwire.speech.viterbi import align


def best_of_all(
    scores: NDArray[np.float64],
    stay: NDArray[np.float64],
    leave: NDArray[np.float64],
    skip_from: NDArray[np.int64],
) -> float:
    """Try every way."""
    frames, states = scores.shape
    best = -np.inf
    for way in itertools.product(range(states), repeat=frames):
        if way[-1] != states - 1 or (way[0] != 0 and skip_from[way[0]] != -2):
            continue
        total = scores[0, way[0]]
        for t, (before, after) in enumerate(itertools.pairwise(way), 1):
            if before == after:
                total += stay[before]
            elif after == before + 1 or skip_from[after] == before:
                total += leave[before]
            else:
                total = -np.inf
                break
            total += scores[t, after]
        best = max(best, total)
    return float(best)


def value_of(way: NDArray[np.int64], scores, stay, leave) -> float:  # type: ignore[no-untyped-def]
    """The logarithm of the probability of one way."""
    total = scores[0, way[0]]
    for t, (before, after) in enumerate(itertools.pairwise(way), 1):
        total += (stay if before == after else leave)[before] + scores[t, after]
    return float(total)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_it_is_the_best_of_all_ways(seed: int, frames: int, states: int, skips: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (frames, states))
    staying = rng.uniform(0.1, 0.9, states)
    stay, leave = np.log(staying), np.log1p(-staying)
    other = np.full(states, -1)
    if skips and states > 2:
        other[2], other[1] = 0, -2
    wanted = best_of_all(scores, stay, leave, other)
    if wanted == -np.inf:
        with pytest.raises(ValueError, match="at least a frame for every state"):
            align(scores, stay, leave, other)
        return
    way, found = align(scores, stay, leave, other)
    assert found == pytest.approx(wanted)
    assert value_of(way, scores, stay, leave) == pytest.approx(wanted)
    assert way[-1] == states - 1


def test_boundaries_move_to_where_scores_have_them() -> None:
    scores = np.full((8, 3), -5.0)
    scores[:3, 2] = scores[3:5, 0] = scores[5:, 2] = 0.0
    before = np.array([2, 0, 0, 0, 0, 0, 0, 2])
    known = durations(np.array([6, 0, 2]), np.array([1, 0, 2]))
    assert stretches(before).tolist() == [2, 0, 2]
    assert realign(scores, before, known).tolist() == [2, 2, 2, 0, 0, 2, 2, 2]


def test_durations_are_probabilities() -> None:
    known = durations(np.array([10, 0, 1]), np.array([2, 0, 1]))
    assert np.exp(known.stay) + np.exp(known.leave) == pytest.approx(np.ones(3))
    assert np.isfinite([known.stay, known.leave]).all()
    assert np.exp(known.leave[0]) == pytest.approx(0.25)
