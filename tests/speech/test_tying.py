"""Trees divide states where contexts differ, and only as far as frames suffice."""

import numpy as np
import pytest

from thinwire.speech.classes import SILENCE
from thinwire.speech.fillets.chain import NAMES, POSITIONS, STATES, make_chain
from thinwire.speech.fillets.tying import LEAST_FRAMES, Tying, grow, untied

A, M, T, SIL = (NAMES.index(name) for name in ("a", "m", "t", SILENCE))


def grown(wanted: int, frames_a_context: int = 100) -> Tying:
    """State 0 of "a" sounds otherwise behind "m", and state 2 before "t" a little so."""
    rng = np.random.default_rng(0)
    states, left, right = (
        np.repeat(values, frames_a_context).astype(np.int64)
        for values in (
            [A * POSITIONS] * 3 + [A * POSITIONS + 2] * 2,
            [M, T, SIL, M, M],
            [T, T, T, T, M],
        )
    )
    frames = rng.normal(size=(len(states), 2)).astype(np.float32)
    frames[(states == A * POSITIONS) & (left == M)] += 5
    frames[(states == A * POSITIONS + 2) & (right == T)] += 1
    return grow(frames, states, left, right, wanted)


def test_the_question_that_tells_most_is_asked_first() -> None:
    table = grown(STATES + 1).table
    begin = table[A * POSITIONS]
    assert begin[M, T] != begin[T, T] == begin[SIL, T]
    assert len(np.unique(table[A * POSITIONS + 2])) == 1
    assert len(np.unique(grown(STATES + 2).table[A * POSITIONS + 2])) == 2


def test_classes_say_their_phone_and_position() -> None:
    tying = grown(STATES + 2)
    classes = tying.classes
    assert len(classes) == STATES + 2
    for state, numbers in enumerate(tying.table):
        for number in np.unique(numbers):
            assert classes.phone_of[number] == NAMES[state // POSITIONS]
            assert classes.position_of[number] == state % POSITIONS


def test_without_enough_frames_nothing_is_divided() -> None:
    assert len(grown(STATES + 10, LEAST_FRAMES - 1).classes) < STATES + 10
    few = grown(STATES + 10, LEAST_FRAMES // 4).table
    np.testing.assert_array_equal(few, untied().table)


def test_silence_is_not_divided() -> None:
    table = grown(STATES + 2).table
    assert all(len(np.unique(table[SIL * POSITIONS + at])) == 1 for at in range(POSITIONS))


@pytest.mark.parametrize("words", [(("a",),), (("m", "a"), ("t",))])
def test_a_chain_without_tying_has_its_states(words: tuple[tuple[str, ...], ...]) -> None:
    chain = make_chain(words)
    np.testing.assert_array_equal(untied().of_chain(chain), chain.states)
