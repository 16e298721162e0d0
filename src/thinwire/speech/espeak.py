"""The speech synthesiser eSpeak NG, as a library: the package espeakng-loader brings it along."""

import ctypes
from functools import cache

from thinwire.needed import needed

_RETRIEVAL, _PHONEME_EVENTS = 1, 1


@cache
def library() -> ctypes.CDLL:
    """Load and begin it, once in a process.

    Raises:
        MissingPackageError: espeakng-loader is not installed.
        RuntimeError: it does not begin.
    """
    loader = needed("espeakng_loader")
    found = ctypes.CDLL(loader.get_library_path())
    path = str(loader.get_data_path()).encode()
    rate: int = found.espeak_Initialize(_RETRIEVAL, 0, path, _PHONEME_EVENTS)
    if rate <= 0:
        raise RuntimeError(f"eSpeak NG did not begin, with its data in {path.decode()}: {rate}")
    return found
