"""The utterances of the corpus and their features, and what each of them is used for."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.features import MEL_BANDS
from thinwire.speech.fillets.dialogues import Line, lines_with_sound
from thinwire.speech.fillets.phones import Speaker, Words
from thinwire.speech.fillets.sound import RATE, features_of

MAIN_ROLES = ("big", "small")
HELD_OUT = (
    "aztec",
    "cave",
    "computer",
    "corals",
    "elevator1",
    "kitchen",
    "pavement",
    "wreck",
)
"""Rooms whose utterances of the main roles are kept for tests."""

_CEPSTRA = 13
_DELTA_REACH = 2
_LEAST_FRAMES_A_PHONE = 3  # a state of a phone takes a frame or more


@dataclass(frozen=True)
class Utterance:
    """An utterance.

    Attributes:
        line: its line of the dialogue.
        speaker: its role, with "-guest" behind it where the recording has another rate than most,
            which tells of another studio and probably of other people.
        words: the phones of each word.
    """

    line: Line
    speaker: str
    words: Words

    @property
    def name(self) -> str:
        """The name in the files of the corpus, which begins with the speaker."""
        return f"{self.speaker}-{self.line.room.split('/')[-1]}-{self.line.name}"

    @property
    def phones(self) -> list[str]:
        """All phones in order, without silence."""
        return [phone for word in self.words for phone in word]


@dataclass(frozen=True)
class Speech:
    """Utterances with their frames one after the other.

    Attributes:
        utterances: in order.
        frames: features, [frames, values].
        begins: the first frame of each utterance, and behind them the number of all frames,
            int64 [utterances + 1].
    """

    utterances: tuple[Utterance, ...]
    frames: NDArray[np.float32]
    begins: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.utterances)

    def slice_of(self, number: int) -> slice:
        """Return where the frames of an utterance stand."""
        return slice(int(self.begins[number]), int(self.begins[number + 1]))

    def part(self, numbers: Sequence[int]) -> "Speech":
        """Return some of the utterances."""
        chosen = [self.frames[self.slice_of(number)] for number in numbers]
        return Speech(
            tuple(self.utterances[number] for number in numbers),
            np.concatenate(chosen),
            np.cumsum([0, *map(len, chosen)]).astype(np.int64),
        )

    def cut(self, kept: NDArray[np.bool_]) -> "Speech":
        """Return the same utterances with some of their frames.

        Args:
            kept: whether each frame is kept, [frames].
        """
        before = np.concatenate([[0], np.cumsum(kept)])
        return Speech(self.utterances, self.frames[kept], before[self.begins])

    def with_frames(self, frames: NDArray[np.float32]) -> "Speech":
        """Return the same utterances with other features."""
        return Speech(self.utterances, frames, self.begins)


def texts_to_say(files: Mapping[str, bytes]) -> tuple[list[tuple[Line, Words]], Counter[str]]:
    """Return the lines that can be used with their phones, and how many are not used and why."""
    speaker = Speaker()
    usable: list[tuple[Line, Words]] = []
    dropped: Counter[str] = Counter()
    for line in lines_with_sound(files):
        words = speaker.words(line.text) if line.readable else None
        if not line.readable:
            dropped["digits, commands or other alphabets in the text"] += 1
        elif not words:
            dropped["sounds that Czech lacks"] += 1
        else:
            usable.append((line, words))
    return usable, dropped


def read_sounds(
    said: Sequence[tuple[Line, Words]], files: Mapping[str, bytes], tell: Callable[[float], None]
) -> dict[str, NDArray[np.generic]]:
    """Return the log mel energies of all lines.

    Args:
        said: lines with their phones.
        files: contents of sound files by name.
        tell: told which part is done, from 0 to 1.

    Returns:
        "frames": float32 [all frames, 40]; "lengths": frames of each line, 0 for one without
        sound; "rates": samples a second of each.
    """
    found: list[NDArray[np.float32]] = []
    rates = np.zeros(len(said), np.int64)
    nothing = np.zeros((0, MEL_BANDS), np.float32)
    for number, (line, _) in enumerate(said):
        read = features_of(files[line.sound], line.sound)
        features, rates[number] = read or (nothing, 0)
        found.append(features)
        tell((number + 1) / len(said))
    lengths = np.array([len(features) for features in found], np.int64)
    return {"frames": np.concatenate(found), "lengths": lengths, "rates": rates}


def make_speech(
    said: Sequence[tuple[Line, Words]], sounds: Mapping[str, NDArray[np.generic]]
) -> Speech:
    """Return all utterances with log mel energies; those too short for their phones are left out.

    Args:
        said: lines with their phones.
        sounds: as `read_sounds` returns them.
    """
    utterances = tuple(
        Utterance(line, line.role if rate in (0, RATE) else f"{line.role}-guest", words)
        for (line, words), rate in zip(said, sounds["rates"].tolist(), strict=True)
    )
    lengths = sounds["lengths"]
    frames = np.asarray(sounds["frames"], np.float32)
    everything = Speech(utterances, frames, np.concatenate([[0], np.cumsum(lengths)]))
    least = [_LEAST_FRAMES_A_PHONE * len(utterance.phones) for utterance in utterances]
    return everything.part([n for n, length in enumerate(lengths.tolist()) if length >= least[n]])


def normalise(speech: Speech) -> Speech:
    """Bring the features of every speaker to mean 0 and variance 1."""
    frames = speech.frames.copy()
    speakers = np.array([utterance.speaker for utterance in speech.utterances])
    of_frame = np.repeat(np.arange(len(speech)), np.diff(speech.begins))
    for speaker in np.unique(speakers):
        chosen = (speakers == speaker)[of_frame]
        values = frames[chosen].astype(np.float64)
        spread = np.maximum(values.std(0), 1e-3)
        frames[chosen] = ((values - values.mean(0)) / spread).astype(np.float32)
    return speech.with_frames(frames)


def cepstra(speech: Speech) -> NDArray[np.float32]:
    """Return 13 cepstra and their first and second differences in time, [frames, 39].

    Args:
        speech: with log mel energies.
    """
    bands = speech.frames.shape[1]
    angles = np.outer(np.arange(bands) + 0.5, np.arange(_CEPSTRA)) * np.pi / bands
    static = speech.frames @ np.cos(angles).astype(np.float32)
    first = _differences(static, speech.begins)
    return np.concatenate([static, first, _differences(first, speech.begins)], 1)


def _differences(values: NDArray[np.float32], begins: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return slopes over 5 frames; beyond an utterance its first and last frame go on."""
    at = np.arange(len(values))
    lowest = np.repeat(begins[:-1], np.diff(begins))
    highest = np.repeat(begins[1:] - 1, np.diff(begins))
    total = np.zeros_like(values)
    for reach in range(1, _DELTA_REACH + 1):
        ahead, behind = np.minimum(at + reach, highest), np.maximum(at - reach, lowest)
        total += reach * (values[ahead] - values[behind])
    return total / np.float32(2 * sum(reach**2 for reach in range(1, _DELTA_REACH + 1)))


def split(utterances: Sequence[Utterance]) -> dict[str, list[int]]:
    """Return the numbers of the utterances of each part: "train", "test" and "other".

    Utterances of the held-out rooms whose text is said in training are in no part.
    """
    parts: dict[str, list[int]] = {"train": [], "test": [], "other": []}
    for number, utterance in enumerate(utterances):
        main = utterance.speaker.removesuffix("-guest") in MAIN_ROLES
        held_out = utterance.line.room in HELD_OUT
        parts["other" if not main else "test" if held_out else "train"].append(number)
    trained = {utterances[number].words for number in parts["train"]}
    parts["test"] = [n for n in parts["test"] if utterances[n].words not in trained]
    return parts
