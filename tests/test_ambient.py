"""Buffers have the dtype and the device they need, whatever torch's ambient defaults are."""

import ast
from pathlib import Path

import pytest

import thinwire

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
