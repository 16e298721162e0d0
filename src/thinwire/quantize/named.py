"""Codes by the names that recipes and parameter groups give them."""

from collections.abc import Callable

from thinwire.quantize.code import Code
from thinwire.quantize.float32 import Float32Code
from thinwire.quantize.rotated import RotatedSignCode
from thinwire.quantize.sign import SignCode
from thinwire.quantize.uniform import UniformCode

_CODES: dict[str, Callable[[], Code]] = {
    "sign": SignCode,
    "float32": Float32Code,
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
