"""Codes by the names that recipes and parameter groups give them."""

from collections.abc import Callable
from typing import NamedTuple

from thinwire.quantize.code import Code
from thinwire.quantize.floats import Bfloat16Code, Float32Code
from thinwire.quantize.rotated import RotatedSignCode
from thinwire.quantize.sign import SignCode
from thinwire.quantize.uniform import UniformCode

_CODES: dict[str, Callable[[], Code]] = {
    "sign": SignCode,
    "float32": Float32Code,
    "bfloat16": Bfloat16Code,
    "rotated": RotatedSignCode,
    "2-bit": lambda: UniformCode(2),
    "4-bit": lambda: UniformCode(4),
    "8-bit": lambda: UniformCode(8),
}
CODE_NAMES = tuple(_CODES)


def named_code(name: str) -> Code:
    """The code of this name, one of ``CODE_NAMES``.

    Raises:
        ValueError: there is none.
    """
    if name not in _CODES:
        raise ValueError(f"code: expected one of {', '.join(_CODES)}, got {name!r}")
    return _CODES[name]()


class StageCodes(NamedTuple):
    """How gradients travel to their owners, and updates back."""

    gradients: Code
    updates: Code

    @property
    def name(self) -> str:
        """One name where both stages share it, such as "sign", else both."""
        one, two = self
        return one.name if one.name == two.name else f"{one.name}/{two.name}"


def stage_codes(code: str, bits: int | tuple[int, int] = 1) -> StageCodes:
    """The codes of both stages.

    Args:
        code: what one bit means, "sign" or "rotated"; or "float32", or any of ``CODE_NAMES`` for
            both stages.
        bits: bits a value, 1, 2, 4 or 8, for both stages or for each.

    Raises:
        ValueError: there is no such code, or more than one bit of a code that has its own.

    >>> stage_codes("sign", (1, 4)).name
    'sign/4-bit'
    """
    both = (bits, bits) if isinstance(bits, int) else tuple(bits)
    if len(both) != 2 or any(b not in (1, 2, 4, 8) for b in both):
        raise ValueError(f"bits: expected 1, 2, 4 or 8, or two of them, got {bits}")
    if both != (1, 1) and code not in ("sign", "rotated"):
        raise ValueError(f"bits: {bits} goes with code sign or rotated, not {code!r}")
    one, two = (named_code(code if b == 1 else f"{b}-bit") for b in both)
    return StageCodes(one, two)
