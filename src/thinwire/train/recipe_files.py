"""Recipes as TOML files: those shipped, the user's own, and the one written to a run folder."""

import difflib
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from thinwire.data import DataFields
from thinwire.files import read_text
from thinwire.train.fields import check_text
from thinwire.train.former_fields import with_present_names
from thinwire.train.recipe import Recipe, foreign_fields

CONFIG = "config.toml"
"""The recipe in a run folder."""
MAX_BYTES = 1 << 18
"""Of a recipe; those shipped have less than a thousand."""
_SECTIONS = {part.name for part in fields(Recipe) if is_dataclass(part.type)}


def recipe_names() -> list[str]:
    """The recipes shipped with the package."""
    return sorted(path.name.removesuffix(".toml") for path in _shipped() if path.is_file())


def find_recipe(name: str, *, follow: bool = True) -> tuple[str, dict[str, Any]]:
    """The name and fields of a shipped recipe or of a TOML file.

    Args:
        name: "mnist-onebit", or a path that ends in .toml.
        follow: the file may be a link, as one that a user names.

    Returns:
        The recipe's short name and its fields as a flat mapping, "optimizer.lr" -> value.

    Raises:
        ValueError: no such recipe (with the nearest name), not TOML, or a former field with a
            value that it could not have.
        OSError: the file cannot be read.
    """
    if name.endswith(".toml"):
        path = Path(name)
        text, short = read_text(path, limit=MAX_BYTES, follow=follow), path.stem
        check_text("the recipe's file name", short)
    else:
        if name not in recipe_names():
            close = difflib.get_close_matches(name, recipe_names(), n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"no recipe {name!r}: {hint}expected one of {', '.join(recipe_names())}, "
                "or a path to a .toml file"
            )
        file = resources.files("thinwire.recipes").joinpath(f"{name}.toml")
        text, short = file.read_text(encoding="utf-8"), name
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of integers with too many digits
        raise ValueError(f"{name}: not a TOML file: {error}") from None
    try:
        return short, _fields_in(table)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML that ``find_recipe`` reads back; fields that are None are left out."""
    return _as_toml(_brief(_lasting(recipe)))


def _as_toml(nested: dict[str, Any]) -> str:
    plain = {key: value for key, value in nested.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in nested.items() if isinstance(value, dict)}
    lines = _toml_lines(plain)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_toml_lines(table)]
    return "\n".join(lines) + "\n"


def to_jsonable(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested plain values."""
    nested = _brief(_lasting(recipe))
    return {key: str(value) if isinstance(value, Path) else value for key, value in nested.items()}


def flat_fields(recipe: Recipe) -> dict[str, Any]:
    """The recipe's fields as ``find_recipe`` gives them: "optimizer.lr" -> plain value."""
    return _fields_in(tomllib.loads(_as_toml(_lasting(recipe))))


def _fields_in(table: dict[str, Any]) -> dict[str, Any]:
    """The fields of a TOML table; "data", where it is no section, is "data.path"."""
    fields = with_present_names(dict(_flatten(table)))
    if "data" in fields:
        fields["data.path"] = fields.pop("data")
    return fields


def _lasting(recipe: Recipe) -> dict[str, Any]:
    """All fields the run's algorithm reads, but ``resume``, which is one call's."""
    left_out = {"resume", *foreign_fields(recipe.algorithm)}
    return {key: value for key, value in asdict(recipe).items() if key not in left_out}


def _brief(nested: dict[str, Any]) -> dict[str, Any]:
    """Fields with a [data] section that says a path only as that path, as it always was."""
    path = nested["data"]["path"]
    if nested["data"] != asdict(DataFields(path=path)):
        return nested
    return {key: path if key == "data" else value for key, value in nested.items()}


def _toml_lines(table: dict[str, Any]) -> list[str]:
    return [f"{key} = {_toml_value(value)}" for key, value in table.items() if value is not None]


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml_value(item) for item in value)}]"
    if isinstance(value, str | Path):
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)


def _flatten(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fields of sections by dotted names: {"optimizer": {"lr": 1}} -> ("optimizer.lr", 1)."""
    for key, value in table.items():
        if isinstance(value, dict) and (value or key in _SECTIONS):
            yield from ((f"{key}.{field}", inner) for field, inner in value.items())
        else:
            yield key, value


def _shipped() -> Iterator[Any]:
    return (p for p in resources.files("thinwire.recipes").iterdir() if p.name.endswith(".toml"))
