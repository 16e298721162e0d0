"""Former names of options, which keep working for one release.

Until version 0.1 bits stood beside the code (``code="sign", bits=4``), and ``cold_start`` counted
samples in the optimisers and iterations in the hook.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, Literal, ParamSpec

from thinwire.exchange.config import SERIAL, Codes

P = ParamSpec("P")
Unit = Literal["samples", "steps"]


def accepts_former_options(unit: Unit) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Let a constructor take ``bits``, ``cold_start`` and ``cold_start_mode``, with a warning.

    Args:
        unit: what its ``cold_start`` counted.
    """

    def decorate(construct: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(construct)
        def translate(*args: P.args, **options: P.kwargs) -> None:
            return construct(*args, **_translate(dict(options), unit))

        return translate

    return decorate


def without_bits(group: dict[str, Any]) -> dict[str, Any]:
    """Return a param group's options with ``bits`` made part of its ``code``."""
    if "bits" not in group:
        return group
    rest = {name: value for name, value in group.items() if name != "bits"}
    return {**rest, "code": code_of_bits(rest.get("code", "sign"), group["bits"])}


def code_of_bits(code: Codes, bits: int | tuple[int, int]) -> Codes:
    """Return what was called ``code`` with so many bits.

    Args:
        code: "sign", "rotated", "float32", ...
        bits: 1, 2, 4 or 8, for both stages or for each.

    Raises:
        ValueError: another number, or more than one bit of a code that has its own.

    >>> code_of_bits("sign", 4), code_of_bits("rotated", (1, 4)), code_of_bits("float32", 1)
    ('4-bit', ('rotated', '4-bit'), 'float32')
    """
    both = (bits, bits) if isinstance(bits, int) else tuple(bits)
    if len(both) != 2 or any(b not in (1, 2, 4, 8) for b in both):
        raise ValueError(f"bits: expected 1, 2, 4 or 8, or two of them, got {bits}")
    if both == (1, 1):
        return code
    if code not in ("sign", "rotated"):
        raise ValueError(f"bits: {bits} goes with code sign or rotated, not {code!r}")
    one, two = (code if b == 1 else f"{b}-bit" for b in both)
    return one if one == two else (one, two)


def _translate(options: dict[str, Any], unit: Unit) -> dict[str, Any]:
    if "bits" in options:
        bits = options["bits"]
        options = without_bits(options)
        _warn(f"bits={bits!r}", f"code={options['code']!r}")
    if "cold_start" in options:
        length = options.pop("cold_start")
        mode = options.pop("cold_start_mode", SERIAL if unit == "samples" else "dense")
        if mode not in (SERIAL, "dense"):
            raise ValueError(f"cold_start_mode: expected serial or dense, got {mode!r}")
        new = {"start": SERIAL if mode == SERIAL else "float32", f"start_{unit}": length}
        _warn(
            f"cold_start={length!r}", ", ".join(f"{name}={value!r}" for name, value in new.items())
        )
        options |= new
    return options


def _warn(former: str, now: str) -> None:
    warnings.warn(
        f"{former} is a former name and will not be understood by the next release: write {now}",
        DeprecationWarning,
        stacklevel=4,
    )
