"""What goes on the wire: columns, codes, error feedback. Pure: nothing here communicates."""

from thinwire.quantize.code import Code, Float32Code, SignCode, named_code
from thinwire.quantize.columns import Axis, Columns, column_lengths
from thinwire.quantize.feedback import ErrorFeedback
from thinwire.quantize.flat import FlatSpace

__all__ = [
    "Axis",
    "Code",
    "Columns",
    "ErrorFeedback",
    "FlatSpace",
    "Float32Code",
    "SignCode",
    "column_lengths",
    "named_code",
]
