"""Sound files as features."""

import io

import numpy as np
from numpy.typing import NDArray

from thinwire.needed import needed
from thinwire.speech.features import log_mel

RATE = 22050
_SILENT = 1e-4  # samples of a file without any sound stay below


def features_of(content: bytes, name: str) -> tuple[NDArray[np.float32], int] | None:
    """Return the log mel energies of a sound file and its own samples a second.

    Args:
        content: of the file, Ogg Vorbis.
        name: of the file, for messages.

    Returns:
        float32 [frames, 40] and the rate; None for a file without sound.

    Raises:
        ValueError: it is no sound file.
        MissingPackageError: soundfile or soxr is not installed.
    """
    soundfile, soxr = needed("soundfile"), needed("soxr")
    try:
        channels, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{name}: expected an Ogg file, got {error}") from None
    samples = channels.mean(1)
    if not len(samples) or float(np.abs(samples).max()) < _SILENT:
        return None
    if rate != RATE:
        samples = soxr.resample(samples, rate, RATE)
    return log_mel(np.ascontiguousarray(samples, np.float32), RATE), int(rate)
