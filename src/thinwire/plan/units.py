"""Quantities as people write them: ``1Gbit/s``, ``46M``, ``50us``, ``1..1024``."""

import math
import re

_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_RATE = re.compile(r"([\d.]+)\s*([kmgt]?)(bit/s|bits/s|bit|bps|b/s)", re.IGNORECASE)
_TIME = re.compile(r"([\d.]+)\s*(ns|us|ms|s)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


def parse_rate(text: str) -> float:
    """Return the bytes per second of a data rate. ``B`` is a byte, ``b`` or ``bit`` a bit.

    Raises:
        ValueError: it is not a positive rate.

    >>> parse_rate("1Gbit/s"), parse_rate("100mbit"), parse_rate("8GB/s"), parse_rate("10Gbps")
    (125000000.0, 12500000.0, 8000000000.0, 1250000000.0)
    """
    found = _RATE.fullmatch(text.strip())
    value = _number(found.group(1)) if found else math.nan
    if found is None or not value > 0:
        raise ValueError(f"expected a rate such as 100Mbit/s, 1Gbit/s or 8GB/s, got {text!r}")
    bits = 1.0 if found.group(3) == "B/s" else 8.0
    return value * _PREFIXES[found.group(2).lower()] / bits


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
        ValueError: it is not one.

    >>> parse_seconds("50us"), parse_seconds("2 ms"), parse_seconds("1.5s")
    (5e-05, 0.002, 1.5)
    """
    found = _TIME.fullmatch(text.strip())
    value = _number(found.group(1)) if found else math.nan
    if found is None or math.isnan(value):
        raise ValueError(f"expected a time such as 50us, 2ms or 1s, got {text!r}")
    return float(f"{value * _SECONDS[found.group(2)]:.12g}")


def seconds_text(seconds: float) -> str:
    """Write a duration with three digits, in the unit in which it is easiest to read.

    >>> seconds_text(3.14159), seconds_text(234), seconds_text(80_000)
    ('3.14 s', '3.9 min', '22.2 h')
    """
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def parse_counts(text: str) -> list[int]:
    """Return whole numbers from a list, or from a range that doubles.

    Raises:
        ValueError: it is neither, or a number is below 1.

    >>> parse_counts("1..16"), parse_counts("3..10"), parse_counts("1,2,6")
    ([1, 2, 4, 8, 16], [3, 6, 10], [1, 2, 6])
    """
    found = re.fullmatch(r"(\d+)\.\.(\d+)", text.strip())
    if found is None:
        counts = [int(part) for part in text.split(",") if part.strip().isdecimal()]
        well_formed = len(counts) == text.count(",") + 1
    else:
        first, last = int(found.group(1)), int(found.group(2))
        well_formed = 1 <= first <= last
        counts = _doubling(first, last) if well_formed else []
    if not well_formed or min(counts) < 1:
        raise ValueError(f"expected numbers >= 1 such as 1..1024 or 1,2,4, got {text!r}")
    return sorted(set(counts))


def _doubling(first: int, last: int) -> list[int]:
    return [first * 2**i for i in range((last // first).bit_length()) if first * 2**i < last] + [
        last
    ]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
