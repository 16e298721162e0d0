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
    """Import the function a name stands for.

    The module is looked for as ``python -m`` does: in the current directory, then on the import
    path.

    Args:
        name: "package.module:function".

    Raises:
        ValueError: the module cannot be imported, or has no such function.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):  # a console script's path begins elsewhere
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{module_name} cannot be imported: {error}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ValueError(f"{module_name} has no function {attribute!r}")
    found: Callable[..., Any] = function
    return found
