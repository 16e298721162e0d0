"""A shard of a corpus: some utterances that follow each other, made in a process of their own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinwire.needed import needed
from thinwire.speech.features import FRAMES_A_SECOND, log_mel
from thinwire.speech.synth import acoustics, speaking
from thinwire.speech.synth.acoustics import CONDITIONS
from thinwire.speech.synth.segments import Segments, frames_of, phones_of
from thinwire.speech.synth.voices import draw_manner

STAGES = ("speech", "resampling", "room and noise", "features", "all")
MOST_FRAMES = 120 * FRAMES_A_SECOND  # of an utterance

_AHEAD = (0.1, 0.3)  # seconds of silence before the speech and after it


@dataclass(frozen=True)
class Task:
    """What to make.

    Attributes:
        sentences: one for each utterance.
        first: number of the first utterance.
        variants: of voices, which are drawn from.
        noise: a name in ``CONDITIONS``.
        seed: of the part of the corpus; each utterance has random numbers of its own.
    """

    sentences: tuple[str, ...]
    first: int
    variants: tuple[str, ...]
    noise: str
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Made:
    """An utterance.

    Attributes:
        name: of the utterance, beginning with that of its speaker.
        speaker: its speaker.
        features: float32 [frames, bands].
        segments: its phones.
    """

    name: str
    speaker: str
    features: NDArray[np.float32]
    segments: Segments


@dataclass(frozen=True)
class Shard:
    """Utterances, and what they cost.

    Attributes:
        utterances: those that could be made.
        left_out: how many could not, for unknown sounds or too few or too many frames.
        seconds: of one processor, for each of ``STAGES``.
    """

    utterances: tuple[Made, ...]
    left_out: int
    seconds: dict[str, float]


def make_shard(task: Task) -> Shard:
    """Speak sentences, disturb the sound and compute features.

    The result is settled by the task only in a process in which eSpeak has not spoken before.

    Raises:
        MissingPackageError: a package is not installed.
        RuntimeError: eSpeak lacks a voice, or does not speak.
    """
    clock = _Clock()
    made = [_utter(task, number, clock) for number in range(len(task.sentences))]
    utterances = tuple(each for each in made if each is not None)
    clock.seconds["all"] = time.process_time()
    return Shard(utterances, len(made) - len(utterances), clock.seconds)


class _Clock:
    """Adds up the processor's seconds of stages."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = time.process_time()
        yield
        self.seconds[stage] += time.process_time() - begin


def _utter(task: Task, number: int, clock: _Clock) -> Made | None:
    rng = np.random.default_rng([*task.seed, task.first + number])
    manner = draw_manner(rng, task.variants)
    with clock("speech"):
        spoken = speaking.speak(task.sentences[number], manner)
    with clock("resampling"):
        sound = needed("soxr").resample(spoken.samples, speaking.RATE, acoustics.RATE)
    ahead, after = (int(seconds * acoustics.RATE) for seconds in rng.uniform(*_AHEAD, size=2))
    with clock("room and noise"):
        heard = acoustics.record(np.pad(sound, (ahead, after)), CONDITIONS[task.noise], rng)
    begins = ahead + spoken.begins * (acoustics.RATE / speaking.RATE)
    found = phones_of(spoken.names, begins, len(heard), manner.accent.rhotic)
    if found is None or len(heard) * FRAMES_A_SECOND > MOST_FRAMES * acoustics.RATE:
        return None
    with clock("features"):
        features = log_mel(heard, acoustics.RATE)
    segments = frames_of(*found, len(features))
    if segments is None:
        return None
    name = f"{manner.speaker}-{task.first + number:07d}"
    return Made(name, manner.speaker, features, segments)
