"""Text from event files, which is not to be trusted."""

from __future__ import annotations

from typing import Any

_MARK = "\N{REPLACEMENT CHARACTER}"


def clean_text(value: Any, length: int = 2000) -> str:
    """Make a value one line of printable text.

    Control, bidi and surrogate characters, which could move a terminal's cursor, turn a line
    around or break the encoding, become a replacement mark. Markup is left alone: what writes
    HTML, SVG or Markdown escapes it there.

    Args:
        value: Anything; made to text first.
        length: The most characters to return.
    """
    text = str(value)[: length + 1]
    return shorten("".join(char if char.isprintable() else _MARK for char in text), length)


def shorten(text: str, length: int) -> str:
    """Cut a text to a length, with an ellipsis where something was cut."""
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"
