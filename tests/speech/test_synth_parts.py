"""The parts of synthetic speech that need no synthesiser."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.speech.classes import SILENCE, Classes
from thinwire.speech.synth.acoustics import CONDITIONS, RATE, record
from thinwire.speech.synth.phones import PHONES, phone_number
from thinwire.speech.synth.pool import fresh_processes
from thinwire.speech.synth.segments import Segments, frames_of, phones_of, state_frames
from thinwire.speech.synth.text import divide, read_sentences, split
from thinwire.speech.synth.tying import CONTEXTS, STATES, contexts_of, tie
from thinwire.speech.synth.voices import ACCENTS, TEST_VARIANTS, TRAIN_VARIANTS, draw_manner

SIL = PHONES.index(SILENCE)


@pytest.mark.parametrize(
    ("name", "rhotic", "phone"),
    [
        ("'eI", True, "EY"),
        (",aI@", True, "AY"),
        ("3", True, "ER"),
        ("3", False, "AX"),
        ("t#", True, "D"),
        ("", True, SILENCE),
        ("'", True, SILENCE),
        ("_:", False, SILENCE),
    ],
)
def test_sounds_become_phones(name: str, rhotic: bool, phone: str) -> None:
    number = phone_number(name, rhotic)
    assert number is not None
    assert PHONES[number] == phone


def test_an_unknown_sound_is_told() -> None:
    assert phone_number("q#", True) is None
    assert phones_of(("t", "q#"), np.array([0, 100]), 1000, True) is None


def test_test_voices_are_not_those_of_training() -> None:
    assert not set(TEST_VARIANTS) & set(TRAIN_VARIANTS)
    for variants in (TEST_VARIANTS, TRAIN_VARIANTS):
        assert len(set(variants)) == len(variants)
    rng = np.random.default_rng(0)
    drawn = [draw_manner(rng, TEST_VARIANTS) for _ in range(2000)]
    assert len({manner.speaker for manner in drawn}) == len(ACCENTS) * len(TEST_VARIANTS)
    assert all(len(manner.speaker.split()) == 1 for manner in drawn)


def test_texts_are_split_and_divided(tmp_path: Path) -> None:
    text = "He left ; she stayed . No\n`` Is it , then ? '' Yes , it is .\n" + "word " * 50
    assert split(text) == ["He left;", "she stayed.", "Is it, then?", "Yes, it is."]
    sentences = [f"sentence number {n}" for n in range(100)] * 2
    train, test = divide(sentences, 0.2, seed=1)
    assert len(test) == 20
    assert sorted(train + test) == sorted(set(sentences))
    assert (train, test) == divide(sentences, 0.2, seed=1)
    assert divide(sentences, 0.2, seed=2)[1] != test
    for share in (0.0001, 0.9999):
        assert all(divide(sentences, share, seed=1))
    path = tmp_path / "short.txt"
    path.write_text("One sentence here.")
    with pytest.raises(ValueError, match=r"short.txt: expected at least 2 sentences"):
        read_sentences(path)


def test_pauses_become_one_silence_and_sounds_without_samples_vanish() -> None:
    names, begins = ("_", "_:", "t", "@", "l", "_", "_:"), np.array([0, 5, 50, 90, 90, 120, 125])
    found = phones_of(names, 10 + begins, 150, True)
    assert found is not None
    assert [PHONES[n] for n in found[0]] == [SILENCE, "T", "L", SILENCE]
    assert found[1].tolist() == [0, 60, 100, 130]


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=40), st.integers(0, 5))
def test_every_phone_has_frames_for_its_states(lengths: list[int], spare: int) -> None:
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(float)
    phones = np.arange(len(lengths), dtype=np.uint8) % SIL
    frames = max(sum(lengths) // 160 - 1, STATES * len(lengths) + spare)
    segments = frames_of(phones, starts, frames)
    assert segments is not None
    assert int(segments.frames.sum()) == frames
    assert segments.frames.min() >= STATES
    states = state_frames(segments)
    assert states.min() >= 1
    assert (states.max(axis=1) - states.min(axis=1)).max() <= 1
    assert np.array_equal(states.sum(axis=1), segments.frames)
    assert frames_of(phones, starts, STATES * len(lengths) - 1) is None


def test_long_phones_begin_with_the_first_frame_whose_middle_is_in_them() -> None:
    starts = np.array([0.0, 1000.0, 2440.0])
    segments = frames_of(np.array([SIL, 1, 2], np.uint8), starts, 30)
    assert segments is not None
    # Frame t has its middle at 200 + 160 t: 1000 is that of frame 5, and 2440 that of frame 14.
    assert segments.frames.tolist() == [5, 9, 16]


def test_neighbours_on_both_sides_give_way_to_a_short_phone() -> None:
    starts = np.array([0.0, 1640.0, 1640.0 + 160])
    segments = frames_of(np.array([SIL, 1, 2], np.uint8), starts, 30)
    assert segments is not None
    assert segments.frames.tolist() == [8, 3, 19]  # from 9, 1, 20


@pytest.mark.parametrize("classes", [STATES * len(PHONES), 200, 700, 3000])
def test_classes_are_tied_by_frequency(classes: int) -> None:
    rng = np.random.default_rng(3)
    frames = np.zeros(CONTEXTS, np.int64)
    common = rng.choice(len(PHONES), 12, replace=False)
    for _ in range(300):
        phones = rng.choice(common, 30).astype(np.uint8)
        segments = Segments(phones, rng.integers(3, 20, 30).astype(np.uint16))
        np.add.at(frames, contexts_of(phones), state_frames(segments))
    tying = tie(frames, classes)
    found = Classes(tying.phones, tying.positions)
    assert 0.9 * classes <= len(found) <= classes
    assert set(found.states) == {(phone, at) for phone in PHONES for at in range(STATES)}
    assert found.phone_of.count(SILENCE) == STATES
    assert set(tying.class_of) <= set(range(len(found)))
    # A class stands for one state of one phone, whatever its neighbours.
    state = np.arange(CONTEXTS) // len(PHONES) ** 2
    assert all(
        found.phone_of[number] == PHONES[own // STATES]
        and found.position_of[number] == own % STATES
        for own, number in {*zip(state.tolist(), tying.class_of.tolist(), strict=True)}
    )
    # What has a class with neighbours has more frames than any context without one.
    of_class = np.bincount(tying.class_of, frames, minlength=len(found))
    seen, contexts = np.unique(tying.class_of, return_counts=True)
    own_class = np.isin(tying.class_of, seen[contexts == 1]) & (state // STATES != SIL)
    if own_class.any():
        shared = ~own_class & (state // STATES != SIL)
        assert of_class[tying.class_of[own_class]].min() > frames[shared].max()


def test_sound_keeps_its_place_and_has_its_noise() -> None:
    click = np.zeros(RATE, np.float32)
    click[5000:5010] = 1.0
    tone = np.sin(np.arange(2 * RATE) * (2 * np.pi * 1000 / RATE)).astype(np.float32)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        heard = record(click, CONDITIONS["easy"], rng)
        assert abs(int(np.abs(heard).argmax()) - 5004) < 16
        heard = record(tone, CONDITIONS["easy"], rng)
        assert heard.dtype == np.float32
        assert heard.shape == tone.shape
        assert np.abs(heard).max() <= 1.0
        power = np.abs(np.fft.rfft(heard)) ** 2
        near = power[1990:2011].sum()
        assert 10 < 10 * np.log10(near / (power.sum() - near)) < 40


def _number(argument: int) -> tuple[int, int]:
    if argument == 13:
        raise ValueError("no thirteen")
    if argument == 14:
        os._exit(3)
    return argument, os.getpid()


def test_every_argument_has_a_process_of_its_own() -> None:
    results = list(fresh_processes(_number, range(5), jobs=2))
    assert [argument for argument, _ in results] == list(range(5))
    assert len({process for _, process in results}) == 5


@pytest.mark.parametrize(("argument", "said"), [(13, "no thirteen"), (14, "exit code 3")])
def test_what_fails_in_a_process_is_told(argument: int, said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        list(fresh_processes(_number, [1, argument, 2], jobs=3))
