"""What goes on the wire: columns, codes, error feedback. Pure: nothing here communicates."""

import warnings
from typing import Any

from thinwire.quantize.code import Code, CodeDefaults, all_finite
from thinwire.quantize.columns import Axis, Columns, column_lengths
from thinwire.quantize.feedback import ErrorFeedback
from thinwire.quantize.flat import FlatSpace, from_wire, to_wire
from thinwire.quantize.floats import Bfloat16Code, Float32Code
from thinwire.quantize.kernel_code import KernelCode, RotatedSignCode, SignCode, UniformCode
from thinwire.quantize.registry import CodeSpec, code_names, code_spec, named_code, register_code
from thinwire.quantize.stages import CodeLike, StageCodes, stage_codes

__all__ = [
    "Axis",
    "Bfloat16Code",
    "Code",
    "CodeDefaults",
    "CodeLike",
    "CodeSpec",
    "Columns",
    "ErrorFeedback",
    "FlatSpace",
    "Float32Code",
    "KernelCode",
    "RotatedSignCode",
    "SignCode",
    "StageCodes",
    "UniformCode",
    "all_finite",
    "code_names",
    "code_spec",
    "column_lengths",
    "from_wire",
    "named_code",
    "register_code",
    "stage_codes",
    "to_wire",
]


def __getattr__(name: str) -> Any:
    """Serve the former name of ``code_names()`` for one release."""
    if name == "CODE_NAMES":
        warnings.warn(
            "CODE_NAMES: use code_names(), which knows registered codes too",
            DeprecationWarning,
            stacklevel=2,
        )
        return code_names()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
