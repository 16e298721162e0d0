"""Rates of a wire, in tc's words: ``100mbit``, ``1gbit``, ``none``."""

import re

UNITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}


def parse_rate(text: str) -> int | None:
    """Bits a second, or None where the wire is not throttled.

    >>> parse_rate("100mbit"), parse_rate("2.5Gbit"), parse_rate("none")
    (100000000, 2500000000, None)

    Raises:
        ValueError: not a rate.
    """
    if text.lower() in ("none", "unthrottled"):
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?bit)", text.lower())
    if match is None or float(match[1]) == 0:
        raise ValueError(f"rate: expected one such as 100mbit, 1gbit or none, got {text!r}")
    return round(float(match[1]) * UNITS[match[2]])


def rate_text(rate: int | None) -> str:
    """The shortest text that ``parse_rate`` reads back.

    >>> rate_text(10**9), rate_text(2_500_000), rate_text(None)
    ('1gbit', '2500kbit', 'none')
    """
    if rate is None:
        return "none"
    unit = next(unit for unit in reversed(UNITS) if rate % UNITS[unit] == 0)
    return f"{rate // UNITS[unit]}{unit}"
