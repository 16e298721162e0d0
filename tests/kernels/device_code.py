"""Compile what calls would launch on a GPU: ``python -m tests.kernels.device_code CAPABILITY``.

Operators are called with tensors of the CPU and go all the way but for the launch. Prints one line
for each program: its name, and the instructions in it that round otherwise than the reference does,
of which there must be none.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from tests.kernels.calls import layout_of, outputs
from thinwire.kernels import FAMILIES
from thinwire.kernels.triton_kernels import KERNELS
from thinwire.quantize import Columns

OTHERWISE = r"fma\.\w+\.f32|div\.(?:full|approx)|\.ftz"  # contracted, inexact, without subnormals
COLUMNS = Columns.from_lengths([300, 784, 1, 40, 5000])
BITS = {"sign": 1, "rotated": 1, "uniform": 4}


class Driver:
    """What triton asks about the device before it compiles."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiled_only(capability: int) -> Iterator[list[Any]]:
    """Let calls of programs compile them for this capability; gives what was compiled."""
    made: list[Any] = []
    run = JITFunction.run

    def compile_(self: Any, *arguments: Any, warmup: bool, **words: Any) -> None:
        made.append(run(self, *arguments, warmup=True, **words))

    triton.runtime.driver.set_active(Driver(capability))
    with mock.patch.object(JITFunction, "run", compile_):
        yield made


def calls(family: str) -> dict[str, partial[None]]:
    """Encode, and the sum of three packets."""
    bits, columns = BITS[family], COLUMNS
    layout = layout_of(family, bits, columns)
    levels, packed = outputs(family, bits, columns)
    gradient, residual = torch.zeros(2, columns.values)
    encode = (gradient.bfloat16(), 0.5, residual, layout, bits, residual, levels, packed)
    packets: list[list[Tensor]] = [[levels] * 3, [packed] * 3]
    return {
        "encode": partial(KERNELS[f"{family}_encode"], *encode),
        "sum": partial(KERNELS[f"{family}_sum"], *packets, layout, bits, residual),
    }


if __name__ == "__main__":
    with compiled_only(int(sys.argv[1])) as programs:
        for family in FAMILIES:
            for what, call in calls(family).items():
                call()
                found = re.findall(OTHERWISE, programs.pop().asm["ptx"])
                print(family, what, *sorted(set(found)))
