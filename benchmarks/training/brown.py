"""The Brown corpus, a million words of American English of 1961, as plain text."""

from functools import cache

from benchmarks.training import char_lm
from thinwire.data.brown import brown_text


@cache
def load_brown() -> char_lm.Text:
    """Return the text, every twentieth of its files at the end, which is held out."""
    return char_lm.split(brown_text())
