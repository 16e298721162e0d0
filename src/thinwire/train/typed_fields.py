"""A recipe from the fields of a file: every value is of its field's type, or is refused by name.

A file is data, so its values never become flags: "--help" is a text here, and "3" is no 3.
"""

import difflib
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from thinwire.train.recipe import Recipe

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "text",
}
_LARGEST = 10**300  # a larger int is no float


def recipe_from(fields: Mapping[str, Any]) -> Recipe:
    """Make a recipe from what a file says; the rest is as it is by default.

    Args:
        fields: "optimizer.lr" -> value, as ``find_recipe`` reads them.

    Raises:
        ValueError: a field that there is not (with the nearest one), or a value that a field cannot
            have; naming the field and what was expected.

    >>> recipe_from({"epochs": 3, "model.hidden": [8, 4]}).model.hidden
    (8, 4)
    """
    known = _kinds()
    parts: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"{_excerpt(name)}: no recipe has such a field{_nearest(name)}")
        section, _, field = name.rpartition(".")
        parts.setdefault(section, {})[field] = _field(name, value, known[name])
    kinds, plain = get_type_hints(Recipe), parts.pop("", {})
    return Recipe(**plain, **{section: kinds[section](**part) for section, part in parts.items()})


@cache
def _kinds() -> dict[str, Any]:
    """The type of every field, by its dotted name."""
    found: dict[str, Any] = {}
    for name, kind in get_type_hints(Recipe).items():
        if is_dataclass(kind):
            found |= {f"{name}.{inner}": of for inner, of in get_type_hints(kind).items()}
        else:
            found[name] = kind
    return found


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name[:100], _kinds(), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _field(name: str, value: Any, kind: Any) -> Any:
    try:
        return _of_kind(value, kind)
    except TypeError:
        raise ValueError(f"{name}: expected {_words(kind)}, got {_excerpt(value)}") from None


def _of_kind(value: Any, kind: Any) -> Any:
    """The value as the field holds it.

    Raises:
        TypeError: it is of another kind.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _of_one_kind(value, parts)
    if origin is tuple:
        return _items(value, parts)
    if origin is Literal:
        fits = isinstance(value, str) and value in parts
    elif kind is Path and isinstance(value, str):
        return Path(value)
    elif kind is float and type(value) is int and abs(value) < _LARGEST:
        return float(value)
    else:
        fits = type(value) is kind
    if not fits:
        raise TypeError(kind)
    return value


def _of_one_kind(value: Any, kinds: tuple[Any, ...]) -> Any:
    for kind in kinds:
        try:
            return _of_kind(value, kind)
        except TypeError:
            continue
    raise TypeError(kinds)


def _items(value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list as a tuple; one value will do for a list of any length."""
    several = kinds[-1] is Ellipsis
    items = value if isinstance(value, list) or not several else [value]
    if not isinstance(items, list) or not (several or len(items) == len(kinds)):
        raise TypeError(kinds)
    of_each = kinds[:1] * len(items) if several else kinds
    return tuple(_of_kind(item, kind) for item, kind in zip(items, of_each, strict=True))


def _words(kind: Any) -> str:
    """What is expected.

    >>> _words(tuple[int, ...] | None), _words(str | tuple[str, str])
    ('a list, each a whole number', 'text or [text, text]')
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_words(part) for part in parts if part is not type(None))
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    if origin is tuple and parts[-1] is Ellipsis:
        return f"a list, each {_words(parts[0])}"
    if origin is tuple:
        return f"[{', '.join(map(_words, parts))}]"
    return _WORDS[kind]


def _excerpt(value: Any) -> str:
    """A value from a file, short enough for one line, however many digits an int has."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'table'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
