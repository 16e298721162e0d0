"""thinwire: train neural networks in parallel when the wire is the bottleneck.

The public names are those of ``thinwire.api``. They are imported when the first of them is used, so
that ``import thinwire`` takes no longer than ``import torch``.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thinwire.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if name.startswith("__") and name not in ("__all__", "__version__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    api = import_module("thinwire.api")
    if hasattr(api, name):
        return getattr(api, name)
    if f"{__name__}.{name}" in sys.modules:  # a part of the package, imported along with the names
        return sys.modules[f"{__name__}.{name}"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*import_module("thinwire.api").__all__]
