"""What is special to the Triton kernels: when triton is imported, and what the host does."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests import check_gpu
from tests.kernels.calls import FAMILY_BITS, Kernels, decode, encode, inputs, triton_back_ends
from tests.kernels.test_families import call_of, moved
from thinwire import kernels
from thinwire.kernels import reference, triton_kernels
from thinwire.kernels.triton_kernels import operators
from thinwire.quantize import Columns

needs_triton = pytest.mark.skipif(not triton_kernels.available(), reason="triton is not installed")


def python(*words: str, **environment: str) -> str:
    known = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, *words], env={**known, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_thinwire_does_not_import_triton() -> None:
    said = python("-c", "import sys, thinwire; print('triton' in sys.modules)")
    assert said.strip() == "False"


def test_without_triton_a_gpu_has_the_reference_and_that_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(triton_kernels, "available", lambda: False)
    kernels.warn_if_slow.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"pip install 'thinwire\[gpu\]'"):
        kernels.warn_if_slow(torch.device("cuda"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernels.warn_if_slow(torch.device("cuda"))
    kernels.warn_if_slow.cache_clear()


@needs_triton
def test_every_program_compiles_for_a_gpu_and_rounds_as_the_reference_does(tmp_path: Path) -> None:
    """The interpreter runs programs that the compiler refuses."""
    words = ("-m", "tests.kernels.device_code", "90")
    said = python(*words, TRITON_CACHE_DIR=str(tmp_path))
    programs = [f"{name} {what}" for name in kernels.FAMILIES for what in ("encode", "sum")]
    assert said.splitlines() == programs


@pytest.mark.parametrize("what", ["encode", "decode", "sum"])
@pytest.mark.parametrize(("family", "bits"), FAMILY_BITS)
def test_the_host_reads_nothing(
    family: str, bits: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tensor on the meta device has no values: reading one on the host raises."""
    launches: list[Any] = []

    class Program:
        def __getitem__(self, grid: tuple[int]) -> Any:
            return lambda *arguments, **_: launches.append((grid, len(arguments)))

    programs = SimpleNamespace(
        encode=Program(),
        decode_packets=Program(),
        decode=None,
        tile=lambda values, groups: {"ROWS": 2},
    )
    monkeypatch.setattr(operators, "import_module", lambda name: programs)
    on_host = call_of(what, family, bits, torch.float32)
    arguments = [moved(argument, "meta") for argument in on_host.values()]
    triton_kernels.KERNELS[f"{family}_{what}"](*arguments)
    assert launches == [((1,), 8 if what == "encode" else 19)]  # 2 groups in a program


@needs_triton
def test_packets_of_a_sum_share_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, bool]] = []

    def launch(*_: Any, **constants: Any) -> None:
        calls.append((constants["COUNT"], constants["ACCUMULATE"]))

    monkeypatch.setattr(operators, "_launch", launch)
    given = call_of("sum", "sign", 1, torch.float32)
    given |= {"levels": given["levels"][:1] * 17, "packed": given["packed"][:1] * 17}
    triton_kernels.KERNELS["sign_sum"](*given.values())
    assert calls == [(8, False), (8, True), (1, True)]


def test_packed_values_begin_with_a_whole_word() -> None:
    given = call_of("decode", "sign", 1, torch.float32)
    room = torch.zeros(len(given["packed"]) + 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="packed: expected memory that begins at"):
        triton_kernels.KERNELS["sign_decode"](*{**given, "packed": room[2:]}.values())


@needs_triton
@pytest.mark.parametrize(
    ("values", "groups", "tile"),
    [
        (2**20, 512, {"ROWS": 1, "BLOCK": 2048, "num_warps": 8}),
        (144_000, 1000, {"ROWS": 4, "BLOCK": 256, "num_warps": 4}),
        (3, 3, {"ROWS": 32, "BLOCK": 32, "num_warps": 4}),
        (0, 5, {"ROWS": 32, "BLOCK": 32, "num_warps": 4}),
        (2**20, 1, {"ROWS": 1, "BLOCK": 4096, "num_warps": 16}),
    ],
)
def test_tiles_follow_the_mean_length(values: int, groups: int, tile: dict[str, int]) -> None:
    from thinwire.kernels.triton_kernels import tiles

    assert tiles.tile(values, groups) == tile


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_check_without_a_gpu_says_that_it_checked_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check_gpu.main() == 2
    assert capsys.readouterr().out.count("\n") == 1


def test_a_check_prints_one_table() -> None:
    settings = {"code": "sign", "size": "1M", "device": "cpu", "repeats": 1}
    table = check_gpu.table("3 passed, 0 failed, 0 skipped", [("sign, 1M", settings)])
    assert table.title == f"Kernels on cpu, {kernels.active()}"
    assert [row[0] for row in table.rows] == ["tests", "sign, 1M"]
    assert {len(row) for row in table.rows} == {len(table.headings)}


@triton_back_ends
@pytest.mark.parametrize(("family", "bits"), FAMILY_BITS)
def test_groups_longer_than_a_tile_are_read_in_parts(
    family: str, bits: int, back_end: Kernels
) -> None:
    """The mean length of these is far below the longest, also in place."""
    columns = Columns.from_lengths([5000, 0, *[1] * 9, 700, *[2] * 9])
    gradient, residual = inputs(columns, torch.float32, 4)
    v = gradient + residual
    arguments = (family, bits, columns, gradient, residual)
    _, levels, packed = encode(reference.KERNELS, *arguments)
    left, own_levels, own_packed = encode(back_end, *arguments, target=residual)
    torch.testing.assert_close(own_levels, levels, rtol=2**-7, atol=0)
    assert torch.equal(own_packed, packed)
    decoded = decode(reference.KERNELS, family, bits, columns, own_levels, own_packed)
    assert torch.equal(left, v - decoded)
