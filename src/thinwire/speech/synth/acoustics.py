"""From clean speech to what a microphone hears: a room, a channel, noise and a level.

Nothing here delays the speech: the direct sound comes first, and the channel has no phase.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 16000  # samples a second

_ROOM_SECONDS = (0.1, 0.6)  # until the tail has fallen by 60 dB
_ROOM_DELAY = (0.002, 0.012)  # seconds until the tail begins
_ROOM_LEVEL = (-12.0, 0.0)  # energy of the tail, in dB of the direct sound's
_LOW_EDGE = (20.0, 300.0)  # Hz of the channel
_HIGH_EDGE = (3400.0, 7800.0)
_TILT = (-3.0, 3.0)  # dB an octave of the noise's spectrum, around pink noise
_SWELLS = (0.3, 4.0)  # of the noise, a second
_SWELL_DEPTH = 6.0  # dB at most
_LEVEL = (-34.0, -20.0)  # dB of the speech, 0 being a mean square of 1
_SIXTY_DB = float(np.log(1000.0))


@dataclass(frozen=True)
class Conditions:
    """How hard it is to hear.

    Attributes:
        ratio: least and most dB of speech over noise.
        rooms: share of the sentences that are spoken in a room.
    """

    ratio: tuple[float, float]
    rooms: float


CONDITIONS = {
    "easy": Conditions((15.0, 35.0), 0.3),
    "hard": Conditions((3.0, 25.0), 0.7),
}


def record(
    speech: NDArray[np.float32], conditions: Conditions, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return speech as a microphone hears it.

    Args:
        speech: float32 [samples], ``RATE`` a second.
        conditions: how hard it is to hear.
        rng: for room, channel, noise and level.

    Returns:
        float32 [samples], between -1 and 1.
    """
    count = len(speech)
    size = _quick_size(count + int(_ROOM_SECONDS[1] * RATE))
    frequencies = np.fft.rfftfreq(size, 1 / RATE).astype(np.float32)
    spectrum = np.fft.rfft(speech, size)
    if rng.random() < conditions.rooms:
        spectrum *= np.fft.rfft(_room(rng), size)
    spectrum *= _channel(frequencies, rng)
    heard = np.fft.irfft(spectrum, size)[:count].astype(np.float32)
    noise = _noise(frequencies, size, rng)[:count] * _swells(count, rng)
    heard *= _decibels(rng.uniform(*_LEVEL)) / _loudness(heard)
    noise *= _loudness(heard) / _loudness(noise) * _decibels(-rng.uniform(*conditions.ratio))
    return np.clip(heard + noise, -1.0, 1.0)


def _room(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the response of a room: the direct sound, then noise that dies away."""
    seconds = rng.uniform(*_ROOM_SECONDS)
    times = np.arange(int(seconds * RATE), dtype=np.float32) / RATE
    tail = rng.standard_normal(len(times), np.float32) * np.exp(-_SIXTY_DB / seconds * times)
    tail[: int(rng.uniform(*_ROOM_DELAY) * RATE)] = 0.0
    tail *= _decibels(rng.uniform(*_ROOM_LEVEL)) / np.linalg.norm(tail)
    tail[0] = 1.0
    return tail.astype(np.float32)


def _channel(frequencies: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return how much of each frequency a microphone passes on, [frequencies]."""
    low, high, steep = rng.uniform(*_LOW_EDGE), rng.uniform(*_HIGH_EDGE), rng.uniform(4.0, 12.0)
    above = np.square(frequencies / np.float32(low))
    above *= above
    below = (frequencies / np.float32(high)) ** np.float32(steep)
    passed: NDArray[np.float32] = np.sqrt(above / (1 + above) / (1 + below))
    return passed


def _noise(
    frequencies: NDArray[np.float32], size: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return noise with a random tilt of its spectrum, [size]."""
    exponent = -0.5 + rng.uniform(*_TILT) / 6.02
    shape = np.maximum(frequencies, 50.0) ** np.float32(exponent)
    parts = rng.standard_normal((2, len(frequencies)), np.float32)
    noise = np.fft.irfft((parts[0] + 1j * parts[1]) * shape, size)
    return noise.astype(np.float32)


def _swells(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return how the noise swells and ebbs, [count]."""
    turns = rng.uniform(*_SWELLS) / RATE * np.arange(count, dtype=np.float32) + rng.random()
    depth = rng.uniform(0.0, _SWELL_DEPTH) / 20 * np.log(10.0)
    swells: NDArray[np.float32] = np.exp(
        np.float32(depth) * np.sin(2 * np.pi * turns.astype(np.float32))
    )
    return swells


def _loudness(samples: NDArray[np.float32]) -> float:
    """Return the root of the mean square, never 0."""
    return float(np.sqrt(np.mean(np.square(samples)))) + 1e-9


def _decibels(value: float) -> float:
    return float(10.0 ** (value / 20))


def _quick_size(least: int) -> int:
    """Return the smallest size of at least this with no prime factor above 5.

    >>> _quick_size(4097)
    4320
    """
    best = 1 << (least - 1).bit_length()
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            best = min(best, threes << (-(-least // threes) - 1).bit_length())
            threes *= 3
        fives *= 5
    return best
