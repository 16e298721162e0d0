"""Every code on every back end that it has, by name."""

import copy
import importlib.util
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from tests.kernels.calls import BACK_ENDS
from thinwire.quantize import (
    Code,
    Columns,
    KernelCode,
    RotatedSignCode,
    SignCode,
    code_names,
    named_code,
)

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    """One of the examples as a module, without its main part."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on(back_end: str, code: KernelCode) -> KernelCode:
    """The code with its work done there."""
    code = copy.copy(code)
    code.kernels = BACK_ENDS[back_end]  # type: ignore[misc]
    return code


CODES: dict[str, Code] = {
    **{name: named_code(name) for name in code_names()},
    "sign, float32 levels": SignCode(torch.float32),
    "rotated, float32 levels": RotatedSignCode(torch.float32),
    "ternary": example("ternary_code").TernaryCode(),
}
CASES: dict[str, Code] = {}
for _name, _code in CODES.items():
    if isinstance(_code, KernelCode):
        CASES |= {f"{_name}, {back_end}": on(back_end, _code) for back_end in BACK_ENDS}
    else:
        CASES[_name] = _code


def payload_for(code: Code, columns: Columns, filler: int = 0xAA) -> Tensor:
    """Room for a payload, with something else in it."""
    size = code.payload_bytes(columns)
    return torch.full((size,), filler, dtype=torch.uint8, device=columns.device)


def encoded(code: Code, columns: Columns, values: Tensor) -> Tensor:
    """The payload of values, encoded without a residual."""
    payload = payload_for(code, columns)
    code.encode(values, 1.0, torch.zeros_like(values), columns, torch.empty_like(values), payload)
    return payload


def decoded(code: Code, columns: Columns, payload: Tensor) -> Tensor:
    """The values of a payload."""
    out = torch.full((columns.values,), torch.nan)
    code.decode(payload, columns, out, accumulate=False)
    return out
