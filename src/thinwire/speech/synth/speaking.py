"""Speech by eSpeak NG, and when each of its sounds begins."""

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.espeak import library
from thinwire.speech.synth.voices import Manner

RATE = 22050  # samples a second
_END, _PHONEME = 0, 7  # kinds of events
_SPEED, _PITCH, _RANGE, _GAP = 1, 3, 4, 7  # parameters
_UTF8 = 1
_SEED = 1  # of eSpeak's own noise


class _Name(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("text", ctypes.c_void_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Spoken:
    """A sentence that has been spoken.

    Attributes:
        samples: float32 [samples], between -1 and 1, ``RATE`` a second.
        names: eSpeak's of its sounds.
        begins: the first sample of each, int64 [sounds].
    """

    samples: NDArray[np.float32]
    names: tuple[str, ...]
    begins: NDArray[np.int64]


class _Listener:
    """Collects what eSpeak hands over, piece by piece."""

    def __init__(self) -> None:
        self.pieces: list[NDArray[np.int16]] = []
        self.sounds: list[tuple[str, int]] = []
        self.callback = _Callback(self._hear)  # must live as long as eSpeak may call it

    def _hear(self, samples: Any, count: int, events: Any) -> int:
        if count > 0:
            self.pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        number = 0
        while events[number].type != _END:
            if events[number].type == _PHONEME:
                name = events[number].id.string.decode("utf-8", "replace")
                self.sounds.append((name, events[number].sample))
            number += 1
        return 0


@cache
def _listener() -> _Listener:
    listener = _Listener()
    espeak = library()
    espeak.espeak_SetSynthCallback(listener.callback)
    if hasattr(espeak, "espeak_ng_SetRandSeed"):  # 1.52 begins with the time of day
        espeak.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
    return listener


def speak(sentence: str, manner: Manner) -> Spoken:
    """Speak a sentence.

    eSpeak's breath and hiss are noise whose state runs on from call to call: the same samples come
    from the same calls, in the same order, in a fresh process.

    Raises:
        MissingPackageError: espeakng-loader is not installed.
        RuntimeError: eSpeak lacks the voice, or does not speak.
    """
    espeak, listener = library(), _listener()
    listener.pieces, listener.sounds = [], []
    voice = f"{manner.accent.file}+{manner.variant}"
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        raise RuntimeError(f"eSpeak NG lacks the voice {voice}")
    for parameter, value in (
        (_SPEED, manner.speed),
        (_PITCH, manner.pitch),
        (_RANGE, manner.liveliness),
        (_GAP, manner.gap),
    ):
        espeak.espeak_SetParameter(parameter, value, 0)
    text = sentence.encode() + b"\0"
    status = espeak.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 0, 0, _UTF8, None, None)
    if status != 0 or espeak.espeak_Synchronize() != 0:
        raise RuntimeError(f"eSpeak NG did not speak {sentence!r}: {status}")
    samples = np.concatenate(listener.pieces or [np.zeros(0, np.int16)])
    return Spoken(
        samples.astype(np.float32) / np.float32(32768),
        tuple(name for name, _ in listener.sounds),
        np.array([begin for _, begin in listener.sounds], np.int64),
    )
