"""Finding a user's own function by its name, "package.module:function"."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def is_function_name(name: str) -> bool:
    """Tell whether a text has the form package.module:function.

    >>> is_function_name("shop.data:prices"), is_function_name("prices.csv")
    (True, False)
    """
    module, _, function = name.partition(":")
    return all(map(str.isidentifier, module.split("."))) and function.isidentifier()


def find_function(name: str) -> Callable[..., Any]:
    """Import the function a name stands for; see ``find_attribute``.

    Raises:
        ValueError: the module cannot be imported, or has no such function.
    """
    function = find_attribute(name)
    if not callable(function):
        module, _, attribute = name.partition(":")
        raise ValueError(f"{module} has no function {attribute!r}")
    found: Callable[..., Any] = function
    return found


def find_attribute(name: str) -> Any:
    """Import what a name stands for; None where the module has nothing of this name.

    The module is looked for on the import path and then in the current directory, which cannot
    take the place of anything installed.

    Args:
        name: "package.module:attribute".

    Raises:
        ValueError: the module cannot be imported.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{module_name} cannot be imported: {error}") from error
    return getattr(module, attribute, None)
