"""What goes on the wire: columns, codes, error feedback. Pure: nothing here communicates."""

from thinwire.quantize.code import Code, all_finite
from thinwire.quantize.columns import Axis, Columns, column_lengths
from thinwire.quantize.feedback import ErrorFeedback
from thinwire.quantize.flat import FlatSpace, from_wire, to_wire
from thinwire.quantize.floats import Float32Code
from thinwire.quantize.named import CODE_NAMES, StageCodes, named_code, stage_codes
from thinwire.quantize.rotated import RotatedSignCode
from thinwire.quantize.sign import SignCode
from thinwire.quantize.uniform import UniformCode

__all__ = [
    "CODE_NAMES",
    "Axis",
    "Code",
    "Columns",
    "ErrorFeedback",
    "FlatSpace",
    "Float32Code",
    "RotatedSignCode",
    "SignCode",
    "StageCodes",
    "UniformCode",
    "all_finite",
    "column_lengths",
    "from_wire",
    "named_code",
    "stage_codes",
    "to_wire",
]
