"""How the report writes numbers for people to read."""

from __future__ import annotations

from typing import Any

MISSING = "\N{EN DASH}"


def plain(value: Any) -> str:
    """Text as it is; a missing value as a dash."""
    return MISSING if value is None else str(value)


def whole(value: float | None) -> str:
    """A count with thousands separators: ``34,560``."""
    return MISSING if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """At most two decimals, none when they are zero: ``12``, ``2.05``."""
    return MISSING if value is None else f"{value:,.2f}".rstrip("0").rstrip(".")


def two_decimals(value: float | None) -> str:
    """Two decimals, for percentages: ``2.03``."""
    return MISSING if value is None else f"{value:.2f}"


def one_decimal(value: float | None) -> str:
    """One decimal, for seconds and factors: ``28.6``."""
    return MISSING if value is None else f"{value:,.1f}"


def significant(value: float | None) -> str:
    """Three significant digits below 1000, whole above: ``0.0123``, ``12.3``, ``4,321``."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def yes_no(value: bool | None) -> str:
    """A truth value in words."""
    return MISSING if value is None else "yes" if value else "no"


def data_size(count: float | None) -> str:
    """A number of bytes in decimal units: ``512 B``, ``31.0 kB``, ``4.56 MB``."""
    if count is None:
        return MISSING
    if abs(count) < 999.5:
        return f"{count:.0f} B"
    units = ((1e3, "kB"), (1e6, "MB"), (1e9, "GB"))
    # The first unit which needs no more than three digits; GB beyond that.
    divisor, unit = next((pair for pair in units if abs(count) < 999.5 * pair[0]), units[-1])
    value = count / divisor
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:,.{decimals}f} {unit}"


def tidy(value: float | None) -> float | None:
    """A number without binary dust, a whole one as an int: CSV and JSON say 4 and not 4.0.

    >>> tidy(2.0300000000000002), tidy(4.0)
    (2.03, 4)
    """
    if value is None:
        return None
    rounded = round(value, 9)  # nine decimals are beyond any reading
    return int(rounded) if float(rounded).is_integer() else rounded
