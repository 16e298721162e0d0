"""Text for synthetic speech, without any download, and its packages."""

import random
from importlib.util import find_spec
from pathlib import Path

import pytest

MISSING = [
    module
    for module in ("espeakng_loader", "soxr", "kaldi_native_fbank")
    if find_spec(module) is None
]
needs_packages = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)} of thinwire[speech]"
)

_WORDS = """
the a my your this quick small bright yellow purple heavy old young strange measure vision judge
church thing thought that mother father brother child boy girl horse zebra fish ship sheep window
yellow village river mountain road house kitchen garden jumped walked sang brought caught looked
pushed pulled found lost enjoyed over under near behind without again always never today yesterday
tomorrow morning evening night and but because though loud voice noise oil boil choice about
around through thirty seven azure treasure pleasure wing young use few
"""


def write_text(path: Path, sentences: int = 400) -> Path:
    """Write sentences of random words, one a line."""
    rng, words = random.Random(7), _WORDS.split()
    lines = (" ".join(rng.choices(words, k=rng.randint(4, 14))) for _ in range(sentences))
    path.write_text("".join(f"{line.capitalize()}.\n" for line in lines), encoding="utf-8")
    return path
