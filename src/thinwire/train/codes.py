"""Codes of a recipe: registered names, and codes of the user's own as package.module:attribute.

A recipe names a code of one's own by where its ``CodeSpec`` is. ``import_codes`` imports and
registers it when a run is prepared. Nothing else here imports anything, so a name that stands in a
stored run or checkpoint never does.
"""

import sys
from collections.abc import Iterable

from thinwire.named_function import find_attribute, is_function_name
from thinwire.quantize import CodeSpec, code_names, code_spec, register_code, stage_codes

Codes = str | tuple[str, str]
"""One code for both stages, or one for each: gradients to their owners, and updates back."""

CHOICES = "{}; or package.module:attribute, a CodeSpec of your own".format(
    ", ".join(f"{name} ({code_spec(name).summary})" for name in code_names())
)
"""What to choose from, for help texts."""


def check_codes(field: str, codes: Codes) -> None:
    """Raise ValueError, naming the field, unless these can be codes of both stages.

    Args:
        field: "section.field" of the recipe that holds the codes.
        codes: names; a code of one's own is only looked at when it is imported.
    """
    stage_codes(tuple("float32" if _is_own(name) else name for name in pair(codes)), field)


def import_codes(names: Iterable[str]) -> None:
    """Import and register the codes of one's own among these names.

    Raises:
        ValueError: there is no such module or ``CodeSpec``, or its name is taken by another code.
    """
    for name in filter(_is_own, names):
        spec = _imported(name)
        if not (spec.name in code_names() and code_spec(spec.name) is spec):
            register_code(spec)


def registered(codes: Codes) -> Codes:
    """Return the same codes by the names that they are registered under."""
    if isinstance(codes, str):
        return _registered(codes)
    one, two = codes
    return _registered(one), _registered(two)


def words(codes: Codes) -> str:
    """Return what tells a run over these codes from others: "dense", "1-bit", "rotated 1/4-bit"."""
    named = [code_spec(name) for name in pair(registered(codes))]
    if all(spec.exact for spec in named):
        return "dense"
    sent = [spec.bits for spec in named]
    kinds = dict.fromkeys(spec.kind for spec in named if spec.kind)
    return " ".join([*kinds, "/".join(dict.fromkeys(f"{number:g}" for number in sent)) + "-bit"])


def pair(codes: Codes) -> tuple[str, str]:
    """Return a code for each stage."""
    one, two = (codes, codes) if isinstance(codes, str) else codes
    return one, two


def _is_own(name: str) -> bool:
    return is_function_name(name)


def _registered(name: str) -> str:
    if not _is_own(name):
        return name
    module, _, attribute = name.partition(":")
    if module not in sys.modules:
        raise ValueError(f"code {name}: expected an imported module, call import_codes first")
    spec: CodeSpec = getattr(sys.modules[module], attribute)
    return spec.name


def _imported(name: str) -> CodeSpec:
    try:
        spec = find_attribute(name)
    except ValueError as error:
        raise ValueError(f"code {name}: {error}") from error
    if not isinstance(spec, CodeSpec):
        raise ValueError(f"code {name}: expected a CodeSpec, got a {type(spec).__name__}")
    return spec
