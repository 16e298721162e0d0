"""Buffers have the dtype and the device they need, whatever torch's ambient defaults are."""

import ast
from pathlib import Path

import pytest
import torch

import thinwire
from tests.optim.test_dtypes import ambient
from tests.simulation import Simulation
from thinwire.exchange import split
from thinwire.kernels import reference
from thinwire.quantize import Columns, named_code
from thinwire.quantize.kernel_code import KernelCode

SOURCE = Path(thinwire.__file__).parent
ROOMS = ("kernels", "quantize", "exchange", "solve", "search", "curvature", "optim", "fsdp")
MAKERS = {"arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn"}
MAKERS |= {"randperm", "tensor", "zeros"}


@pytest.mark.parametrize("room", [*ROOMS, "ddp.py"])
def test_every_new_tensor_says_its_dtype_and_its_device(room: str) -> None:
    """``zeros_like``, ``new_zeros`` and the like have both from another tensor."""
    path = SOURCE / room
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        for call in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            maker = call.func
            of_torch = isinstance(maker.value, ast.Name) and maker.value.id == "torch"
            if of_torch and maker.attr in MAKERS:
                said = {keyword.arg for keyword in call.keywords}
                where = f"{file.relative_to(SOURCE)}:{call.lineno}"
                assert {"dtype", "device"} <= said, f"{where}: {maker.attr} says only {said}"


@pytest.mark.parametrize("code", ["sign", "rotated", "4-bit", "bfloat16", "float32"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_the_definition_of_every_code_is_the_same_under_any_default(
    code: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels that front ends run may be compiled ones, which know no default."""
    monkeypatch.setattr(KernelCode, "kernels", reference.KERNELS)
    generator = torch.Generator().manual_seed(0)
    gradients = list(torch.randn(2, 1300, generator=generator, dtype=torch.float32))

    def arrived() -> torch.Tensor:
        workers = Simulation(Columns.from_lengths([700, 300, 300]), 2)
        workers.reduce(named_code(code), gradients)
        return workers.aggregate()

    expected = arrived()
    with ambient(dtype):
        assert torch.equal(arrived(), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_stripes_are_cut_alike_under_any_default(dtype: torch.dtype) -> None:
    columns = Columns.from_lengths([256] * 1001)
    expected = [stripe.start for stripe in split(columns, 7)]
    with ambient(dtype):
        assert [stripe.start for stripe in split(columns, 7)] == expected
