"""From the samples at which sounds begin to the frames of every phone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.classes import SILENCE
from thinwire.speech.features import FRAMES_A_SECOND
from thinwire.speech.synth.acoustics import RATE
from thinwire.speech.synth.phones import PHONES, phone_number
from thinwire.speech.synth.tying import STATES

_SHIFT = RATE // FRAMES_A_SECOND  # samples from frame to frame
_MIDDLE = 200  # samples from the beginning of a frame of 25 ms to its middle


@dataclass(frozen=True)
class Segments:
    """The phones of an utterance.

    Attributes:
        phones: numbers in ``PHONES``, uint8 [phones].
        frames: how many frames each has, at least one for each of its states, uint16 [phones].
    """

    phones: NDArray[np.uint8]
    frames: NDArray[np.uint16]


def phones_of(
    names: tuple[str, ...], begins: NDArray[np.number], samples: int, rhotic: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float64]] | None:
    """Return phones and their first samples; sounds without samples are left out.

    Silence stands before the first sound, and sounds of silence that follow each other are one.

    Args:
        names: eSpeak's.
        begins: the first sample of each, [sounds].
        samples: of the whole utterance.
        rhotic: see `phone_number`.

    Returns:
        uint8 [phones] and float64 [phones]; None if a sound is not known.
    """
    numbers = [phone_number(name, rhotic) for name in names]
    if None in numbers:
        return None
    phones = np.array([PHONES.index(SILENCE), *numbers], np.uint8)
    starts = np.concatenate([[0.0], begins])
    lasting = np.diff(starts, append=samples) > 0
    phones, starts = phones[lasting], starts[lasting]
    silent = phones == PHONES.index(SILENCE)
    kept = ~(silent & np.concatenate([[False], silent[:-1]]))
    return phones[kept], starts[kept]


def frames_of(
    phones: NDArray[np.uint8], starts: NDArray[np.float64], frames: int
) -> Segments | None:
    """Give each phone the frames whose middle is in it, and at least one for each state.

    Where a phone is too short its neighbours on both sides give way, as little as will do.

    Args:
        phones: numbers in ``PHONES``, [phones].
        starts: the first sample of each, at ``RATE``, increasing, [phones].
        frames: of the whole utterance.

    Returns:
        None if there are too few frames for all states.
    """
    count = len(phones)
    spare = frames - STATES * count
    if spare < 0 or not count:
        return None
    first = np.ceil((starts - _MIDDLE) / _SHIFT).astype(np.int64)
    # With the least length of all phones taken away, a way that never falls is one that will do.
    ahead = np.clip(first - STATES * np.arange(count), 0, spare)
    ahead[0] = 0
    rising = np.maximum.accumulate(ahead)
    falling = np.minimum.accumulate(ahead[::-1])[::-1]
    begins = (rising + falling) // 2 + STATES * np.arange(count)
    return Segments(phones, np.diff(begins, append=frames).astype(np.uint16))


def state_frames(segments: Segments) -> NDArray[np.int64]:
    """Divide the frames of each phone among its states, as equally as can be: [phones, states]."""
    frames = segments.frames.astype(np.int64)[:, None]
    ends = frames * np.arange(STATES + 1) // STATES
    return np.diff(ends, axis=1)
