"""The codes of the two stages of an exchange, as users choose them."""

from collections.abc import Sequence
from typing import NamedTuple

from thinwire.quantize.code import Code, check_code
from thinwire.quantize.registry import named_code

CodeLike = str | Code
"""A registered name, or a code itself."""


class StageCodes(NamedTuple):
    """How gradients travel to their owners, and updates back."""

    gradients: Code
    updates: Code

    @property
    def name(self) -> str:
        """One name where both stages share it, such as "sign", else both."""
        one, two = self
        return one.name if one.name == two.name else f"{one.name}/{two.name}"


def stage_codes(code: CodeLike | Sequence[CodeLike], bits: int | tuple[int, int] = 1) -> StageCodes:
    """Return the codes of both stages.

    Args:
        code: one for both stages, or two: of gradients to their owners, and of updates back.
        bits: the former way to ask for more than one bit, kept for what was written with it: 2, 4
            or 8, or one number for each stage, beside ``code="sign"`` or ``"rotated"``, stand for
            the codes "2-bit", "4-bit" and "8-bit"; 1 stands for ``code`` itself.

    Raises:
        TypeError: an object that is no code.
        ValueError: there is no such code, not one or two of them, or more than one bit of a code
            that has its own.

    >>> stage_codes(("sign", "4-bit")).name
    'sign/4-bit'
    >>> stage_codes("sign", bits=(1, 4)).name
    'sign/4-bit'
    """
    codes = list(code) if isinstance(code, Sequence) and not isinstance(code, str) else [code] * 2
    if len(codes) != 2:
        raise ValueError(f"code: expected one code, or one for each of 2 stages, got {len(codes)}")
    widths = _widths(bits)
    if widths != (1, 1) and code not in ("sign", "rotated"):
        raise ValueError(
            f"bits: {bits} goes with code sign or rotated, not {code!r}; name a code of as many "
            'bits instead, such as code="4-bit"'
        )
    one, two = (
        _made(given if width == 1 else f"{width}-bit")
        for given, width in zip(codes, widths, strict=True)
    )
    return StageCodes(one, two)


def _widths(bits: int | tuple[int, int]) -> tuple[int, ...]:
    both = (bits, bits) if isinstance(bits, int) else tuple(bits)
    if len(both) != 2 or any(width not in (1, 2, 4, 8) for width in both):
        raise ValueError(f"bits: expected 1, 2, 4 or 8, or two of them, got {bits}")
    return both


def _made(code: CodeLike) -> Code:
    return named_code(code) if isinstance(code, str) else check_code(code)
