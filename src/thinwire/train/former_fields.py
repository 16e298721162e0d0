"""Former names of recipe fields and flags, which keep working for one release.

Until version 0.1 ``exchange.bits`` stood beside ``exchange.code``, and ``exchange.cold_start`` and
``exchange.cold_start_mode`` said what ``exchange.start`` and ``exchange.start_samples`` say now.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from thinwire.exchange import SERIAL
from thinwire.exchange.former import code_of_bits

_FORMER = ("exchange.bits", "exchange.cold_start", "exchange.cold_start_mode")


def with_present_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's fields by the names they have now.

    Args:
        fields: dotted name -> value, as ``find_recipe`` reads them from a file.

    Raises:
        ValueError: a former field has a value that it could not have.

    >>> with_present_names({"exchange.cold_start": 9})
    {'exchange.start': 'serial', 'exchange.start_samples': 9}
    """
    found = {name: value for name, value in fields.items() if name not in _FORMER}
    if "exchange.bits" in fields:
        found["exchange.code"] = _code(found.get("exchange.code", "sign"), fields["exchange.bits"])
    length = fields.get("exchange.cold_start", 0)
    mode = fields.get("exchange.cold_start_mode", SERIAL)
    if mode not in (SERIAL, "dense"):
        got = repr(mode) if isinstance(mode, str) else f"a {type(mode).__name__}"
        raise ValueError(f"exchange.cold_start_mode: expected serial or dense, got {got}")
    if length:
        found["exchange.start"] = SERIAL if mode == SERIAL else "float32"
        found["exchange.start_samples"] = length
    return found


def _code(code: Any, bits: Any) -> Any:
    """The code that was called ``code`` with so many bits, both as a file has them."""
    numbers = list(bits) if isinstance(bits, list | tuple) else [bits]
    if not numbers or any(type(number) is not int or not 1 <= number <= 8 for number in numbers):
        raise ValueError("exchange.bits: expected 1, 2, 4 or 8, or two of them")
    if not all(isinstance(name, str) for name in (code if isinstance(code, list) else [code])):
        return code  # whoever reads it as a code refuses it
    one_or_both = tuple(code) if isinstance(code, list) else code
    now = code_of_bits(one_or_both, tuple(numbers) if len(numbers) > 1 else numbers[0])
    return list(now) if isinstance(now, tuple) else now


def with_present_flags(args: Sequence[str], fields: Mapping[str, Any]) -> list[str]:
    """Return command-line arguments by the names they have now, with a warning for each other one.

    Args:
        args: flags and their values.
        fields: of the recipe that they change, by their present names.

    >>> with_present_flags(["--seed", "1"], {})
    ['--seed', '1']
    """
    former, rest = _take_out(args)
    if not former:
        return rest
    known = {"exchange.code": fields["exchange.code"]} if "exchange.code" in fields else {}
    if "exchange.cold_start_mode" not in former and "exchange.start" in fields:
        former["exchange.cold_start_mode"] = [
            SERIAL if fields["exchange.start"] == SERIAL else "dense"
        ]
    now = with_present_names(known | _typed(former))
    if "exchange.cold_start" in former:
        now.setdefault("exchange.start_samples", 0)
    added = [part for name, value in now.items() for part in _as_flag(name, value)]
    flags = ", ".join(_as_flag(name, [])[0] for name in former)
    warnings.warn(
        f"{flags}: former names, which the next release will not understand: write "
        f"{' '.join(added)}",
        FutureWarning,
        stacklevel=2,
    )
    return [*added, *rest]


def _take_out(args: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Former flags with their values, and the other arguments."""
    former: dict[str, list[str]] = {}
    rest: list[str] = []
    values: list[str] = rest
    for arg in args:
        if arg.startswith("--"):
            flag, _, value = arg.partition("=")
            name = flag.removeprefix("--").replace("-", "_")
            if name in _FORMER:
                values = former.setdefault(name, [value] if value else [])
                continue
            values = rest
        values.append(arg)
    return former, rest


def _typed(former: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Values of flags as a file would have them."""
    typed: dict[str, Any] = {}
    for name, values in former.items():
        try:
            numbers = [int(value) for value in values if name != "exchange.cold_start_mode"]
        except ValueError:
            raise ValueError(f"{name}: expected whole numbers, got {' '.join(values)}") from None
        if name == "exchange.bits":
            typed[name] = tuple(numbers)
        elif len(values) != 1:
            raise ValueError(f"{name}: expected one value, got {len(values)}")
        else:
            typed[name] = numbers[0] if numbers else values[0]
    return typed


def _as_flag(name: str, value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{name.replace('_', '-')}", *map(str, values)]
