"""The Triton kernels for tensors of a GPU, which import triton when the first of them is called.

``tiles`` has what their programs share, ``sign``, ``rotated`` and ``uniform`` the programs of each
family, ``operators`` checks a call on the host and launches them. Nothing here makes the host wait
for the device.
"""

from importlib.util import find_spec

from thinwire.kernels.triton_kernels.operators import KERNELS


def available() -> bool:
    """Return whether triton is installed; it is not imported for that."""
    found = find_spec("triton")
    return found is not None and found.origin is not None  # not a mere folder of this name


__all__ = ["KERNELS", "available"]
