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


def stage_codes(code: CodeLike | Sequence[CodeLike], option: str = "code") -> StageCodes:
    """Return the codes of both stages.

    Args:
        code: one for both stages, or two: of gradients to their owners, and of updates back.
        option: what the caller calls it, for errors.

    Raises:
        TypeError: an object that is no code.
        ValueError: there is no such code, or not one or two of them.

    >>> stage_codes(("sign", "4-bit")).name
    'sign/4-bit'
    """
    codes = list(code) if isinstance(code, Sequence) and not isinstance(code, str) else [code] * 2
    if len(codes) != 2:
        raise ValueError(
            f"{option}: expected one code, or one for each of 2 stages, got {len(codes)}"
        )
    return StageCodes(*(_made(given, option) for given in codes))


def _made(code: CodeLike, option: str) -> Code:
    if not isinstance(code, str):
        return check_code(code)
    try:
        return named_code(code)
    except ValueError as error:
        raise ValueError(str(error).replace("code:", f"{option}:", 1)) from None
