"""Compile the programs of every family for GPUs that are not here: ``python -m ... CAPABILITY``.

Prints one line for each program: its name, and the instructions in it that round otherwise than the
reference does, of which there must be none.
"""

import re
import sys
from types import ModuleType
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from thinwire.kernels.triton_kernels import rotated, sign, uniform

OTHERWISE = r"fma\.\w+\.f32|div\.(?:full|approx)|\.ftz"  # contracted, inexact, without subnormals
PROGRAMS: list[tuple[ModuleType, int, str]] = [
    (sign, 1, "*fp32"),
    (rotated, 1, "*bf16"),
    (uniform, 4, "*bf16"),
]
COMMON = {"layout": "*i64", "groups": "i32"}
VALUES, GROUPS, PACKETS = 2**20, 2**12, 3


def signatures(levels: str) -> dict[str, dict[str, Any]]:
    """Argument types of the two programs of a family."""
    encode = {"gradient": "*bf16", "scale": "fp32", "residual": "*fp32", **COMMON}
    encode |= {"new_residual": "*fp32", "levels": levels, "packed": "*i32"}
    decode = {
        "levels": (levels,) * PACKETS,
        "packed": ("*i32",) * PACKETS,
        **COMMON,
        "out": "*fp32",
    }
    return {"encode": encode, "decode": decode}


def compiled(module: ModuleType, bits: int, levels: str, what: str, capability: int) -> str:
    """PTX."""
    tile = module.tile(VALUES, GROUPS)
    options = {"num_warps": tile.pop("num_warps"), "enable_fp_fusion": False}
    constants = {"BITS": bits, **tile} | ({"ACCUMULATE": False} if what == "decode" else {})
    signature = signatures(levels)[what] | dict.fromkeys(constants, "constexpr")
    source = ASTSource(getattr(module, what), signature, constants)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptx: str = made.asm["ptx"]
    return ptx


if __name__ == "__main__":
    for row in PROGRAMS:
        for what in ("encode", "decode"):
            found = re.findall(OTHERWISE, compiled(*row, what, int(sys.argv[1])))
            print(row[0].__name__.rpartition(".")[2], what, *sorted(set(found)))
