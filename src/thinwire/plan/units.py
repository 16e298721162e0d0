"""Quantities as people write them: ``1Gbit/s``, ``46M``, ``50us``, ``1..1024``."""

import math
import re

from thinwire.plan.profile import MOST_RATE, MOST_SECONDS

_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_RATE = re.compile(r"([\d.]+)\s*([kmgt]?)(bit/s|bits/s|bit|bps|b/s)", re.IGNORECASE)
_TIME = re.compile(r"([\d.]+)\s*(ns|us|ms|s)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


def parse_rate(text: str) -> float:
    """Return the bytes per second of a data rate. ``B`` is a byte, ``b`` or ``bit`` a bit.

    Raises:
        ValueError: it is not a rate, or none that a network has.

    >>> parse_rate("1Gbit/s"), parse_rate("100mbit"), parse_rate("8GB/s"), parse_rate("10Gbps")
    (125000000.0, 12500000.0, 8000000000.0, 1250000000.0)
    """
    found = _RATE.fullmatch(text.strip())
    value = _number(found.group(1)) if found else math.nan
    if found is None or not value > 0:
        raise ValueError(f"expected a rate such as 100Mbit/s, 1Gbit/s or 8GB/s, got {_short(text)}")
    bits = 1.0 if found.group(3) == "B/s" else 8.0
    rate = value * _PREFIXES[found.group(2).lower()] / bits
    if not 1 <= rate <= MOST_RATE:
        raise ValueError(f"expected a rate from 1B/s to {MOST_RATE:g}B/s, got {_short(text)}")
    return rate


def rate_text(bytes_per_second: float) -> str:
    """Write a rate in bits, as networks are sold.

    >>> rate_text(125e6), rate_text(12.5e6), rate_text(8e9)
    ('1 Gbit/s', '100 Mbit/s', '64 Gbit/s')
    """
    bits = 8 * bytes_per_second
    unit, name = next(((u, n) for u, n in ((1e9, "G"), (1e6, "M")) if bits >= u), (1e3, "k"))
    return f"{bits / unit:.3g} {name}bit/s"


def parse_seconds(text: str) -> float:
    """Return the seconds of a duration.

    Raises:
        ValueError: it is not one, or longer than anything a plan is about.

    >>> parse_seconds("50us"), parse_seconds("2 ms"), parse_seconds("1.5s")
    (5e-05, 0.002, 1.5)
    """
    found = _TIME.fullmatch(text.strip())
    value = _number(found.group(1)) if found else math.nan
    if found is None or math.isnan(value):
        raise ValueError(f"expected a time such as 50us, 2ms or 1s, got {_short(text)}")
    if value * _SECONDS[found.group(2)] > MOST_SECONDS:
        raise ValueError(f"expected at most {MOST_SECONDS:g} s, got {_short(text)}")
    return float(f"{value * _SECONDS[found.group(2)]:.12g}")


def seconds_text(seconds: float) -> str:
    """Write a duration with three digits, in the unit in which it is easiest to read.

    >>> seconds_text(3.14159), seconds_text(234), seconds_text(80_000)
    ('3.14 s', '3.9 min', '22.2 h')
    """
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def parse_counts(text: str, most: int, several: int) -> list[int]:
    """Return whole numbers from a list, or from a range that doubles.

    Args:
        text: the list or range.
        most: the largest number there may be.
        several: how many there may be.

    Raises:
        ValueError: it is neither, a number is out of range, or there are too many.

    >>> parse_counts("1..16", 99, 9), parse_counts("3..10", 99, 9), parse_counts("1,2,6", 99, 9)
    ([1, 2, 4, 8, 16], [3, 6, 10], [1, 2, 6])
    """
    parts = [part.strip() for part in re.split(r",|\.\.", text)]
    if not re.fullmatch(r"\s*\d+\s*(\.\.\s*\d+\s*|(,\s*\d+\s*)*)", text, re.ASCII):
        raise ValueError(f"expected numbers >= 1 such as 1..1024 or 1,2,4, got {_short(text)}")
    beyond = next((part for part in parts if len(part) > 18 or not 1 <= int(part) <= most), None)
    if beyond is not None:
        raise ValueError(f"expected numbers >= 1 and at most {most}, got {_short(beyond)}")
    counts = sorted(set(map(int, parts)))
    if ".." in text:
        first, last = int(parts[0]), int(parts[1])
        if first > last:
            raise ValueError(f"expected an ascending range such as 1..1024, got {_short(text)}")
        counts = _doubling(first, last)
    if len(counts) > several:
        raise ValueError(f"expected at most {several} numbers, got {len(counts)}")
    return counts


def _doubling(first: int, last: int) -> list[int]:
    return [first * 2**i for i in range((last // first).bit_length()) if first * 2**i < last] + [
        last
    ]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _short(text: str) -> str:
    """What was given, short enough for one line."""
    return repr(text) if len(text) <= 60 else repr(text[:60]) + "..."
