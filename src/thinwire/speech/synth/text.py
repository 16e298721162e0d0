"""The sentences that are spoken."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thinwire.data.brown import PACKAGE, brown_text
from thinwire.files import read_text

LARGEST = 1 << 28  # bytes of a text
WORDS = (2, 40)  # fewest and most of a sentence
_LONGEST_WORD = 40  # characters
_END = re.compile(r"(?<=[.!?;])\s+(?=\S)")
_UNSPOKEN = re.compile(r"``|''|--|[^\w\s.,;:!?'-]")


def read_sentences(path: Path | None) -> list[str]:
    """Read a user's text, or else the Brown corpus, and split it into sentences.

    Raises:
        ValueError: it is not UTF-8, or has fewer than two sentences.
        OSError: it cannot be read.
        RuntimeError: the Brown corpus cannot be fetched.
    """
    sentences = split(_brown() if path is None else read_text(path, limit=LARGEST, follow=True))
    if len(sentences) < 2:
        raise ValueError(
            f"{path or PACKAGE}: expected at least 2 sentences of {WORDS[0]} to {WORDS[1]} words, "
            f"got {len(sentences)}"
        )
    return sentences


def split(text: str) -> list[str]:
    r"""Return the sentences of a text, those with too few or too many words left out.

    >>> split("He said : `` Come here '' . Then\nshe went .")
    ['He said: Come here.', 'she went.']
    """
    sentences = (_clean(part) for line in text.splitlines() for part in _END.split(line))
    return [sentence for sentence in sentences if _is_speakable(sentence)]


def divide(sentences: Sequence[str], test_share: float, seed: int) -> tuple[list[str], list[str]]:
    """Shuffle sentences and divide them; those that are the same stay on one side.

    Returns:
        Sentences to train on and to test on, at least one each.
    """
    once = list(dict.fromkeys(sentences))
    if len(once) < 2:
        raise ValueError("expected at least 2 different sentences, got 1")
    order = np.random.default_rng([seed, len(once)]).permutation(len(once))
    shuffled = [once[number] for number in order]
    test = min(max(1, round(test_share * len(once))), len(once) - 1)
    return shuffled[test:], shuffled[:test]


def _brown() -> str:
    try:
        return brown_text()
    except (OSError, ValueError) as error:
        raise RuntimeError(
            f"the text {PACKAGE} cannot be fetched; name one of your own with --text FILE ({error})"
        ) from error


def _clean(sentence: str) -> str:
    spoken = " ".join(_UNSPOKEN.sub(" ", sentence).split())
    return re.sub(r" (?=[.,;:!?])", "", spoken)


def _is_speakable(sentence: str) -> bool:
    words = [word for word in sentence.split() if any(char.isalnum() for char in word)]
    return WORDS[0] <= len(words) <= WORDS[1] and max(map(len, words)) <= _LONGEST_WORD
