"""Packages that only parts of thinwire need, and the extra of thinwire that brings each."""

import importlib
from typing import Any

EXTRAS = {
    "tyro": "cli",
    "rich": "cli",
    "safetensors": "cli",
    "platformdirs": "cli",
    "msgspec": "cli",
    "jinja2": "report",
    "matplotlib": "report",
    "pyarrow": "tables",
    "tensorboard": "watch",
    "wandb": "watch",
    "triton": "gpu",
    "kaldi_native_fbank": "speech",
    "kaldialign": "speech",
    "espeakng_loader": "speech",
    "soundfile": "speech",
    "soxr": "speech",
}
"""Which extra brings a package, by the name under which it is imported."""


class MissingPackageError(RuntimeError):
    """A package is not installed; the message says how to install it."""


def needed(module: str) -> Any:
    """Import a module of a package in ``EXTRAS``.

    Raises:
        MissingPackageError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise missing(error) from None


def missing(error: ModuleNotFoundError) -> Exception:
    """Return what to raise in place of an error: the same one unless an extra brings the package.

    >>> missing(ModuleNotFoundError("no", name="jinja2.sandbox"))
    MissingPackageError("jinja2 is not installed: pip install 'thinwire[report]'")
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return error
    name = package.replace("_", "-")
    return MissingPackageError(
        f"{name} is not installed: pip install 'thinwire[{EXTRAS[package]}]'"
    )
