"""Packages of the extra ``thinwire[speech]``, which come into play only where they are used."""

import importlib
from types import ModuleType
from typing import Any


class MissingPackageError(RuntimeError):
    """A package is not installed; the message says how to install it."""


def needed(module: str) -> Any:
    """Import a module of the extra.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        found: ModuleType = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        package = module.split(".")[0].replace("_", "-")
        raise MissingPackageError(
            f"{package} is not installed: pip install 'thinwire[speech]'"
        ) from None
    return found
