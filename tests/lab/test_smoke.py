"""Each benchmark at toy size, from its settings to its measures and its tables."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import lab, store
from benchmarks.exchange import __main__ as exchange
from benchmarks.exchange import growth, hooks
from benchmarks.hessian_free import curvature, methods, minibatch, preconditioners, runs, scaling
from benchmarks.kernels import __main__ as kernels
from benchmarks.kernels import device
from benchmarks.launch import Place
from benchmarks.planner import in_lab
from benchmarks.runner import Benchmark, Cell, CellError, missing, run, wanted
from benchmarks.store import Result
from benchmarks.training import __main__ as training
from benchmarks.training import frontier, paper_tables, speeds
from benchmarks.training.cells import tune_key
from benchmarks.training.contenders import grid
from thinwire.kernels import native

MODULES: list[Any] = [exchange, growth, hooks, curvature, methods, minibatch, preconditioners]
MODULES += [scaling, kernels, device, in_lab, frontier, paper_tables, speeds, training]
BENCHMARKS: dict[str, Benchmark] = {m.BENCHMARK.name: m.BENCHMARK for m in MODULES}


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=BENCHMARKS)
def test_what_is_kept_is_not_measured_again(benchmark: Benchmark) -> None:
    """The stored settings are those of today's cells, or a call would measure them anew."""
    stored = store.read(benchmark.name)
    cells = benchmark.cells(stored)
    keys = [cell.key for cell in cells]
    assert len(set(keys)) == len(keys)
    assert stored.keys() <= set(keys)
    assert {cell.key for cell in missing(cells, stored)} == set(keys) - stored.keys()
    assert all(table.rows for table in benchmark.tables(stored))
    benchmark.tables({})


def toy(name: str, key: str, place: Place | None = None, **given: Any) -> tuple[Benchmark, Result]:
    """Run one cell of a benchmark with smaller settings, or in another place."""
    benchmark = BENCHMARKS[name]
    (cell,) = [c for c in wanted(benchmark, {}, [key], given) if c.key == key]
    small = replace(benchmark, cells=lambda _: [replace(cell, place=place)])
    run(small)
    result = store.read(name)[key]
    assert result.error is None
    assert result.settings.items() >= given.items()
    return small, result


def test_kernels(here: Path) -> None:
    if not native.available():
        pytest.skip("the C++ kernels are not built")
    benchmark, result = toy("kernels", "sign, 1M, 1 threads", repeats=1)
    assert result.measures.keys() == kernels.FIGURES.keys()
    assert all(value > 0 for value in result.measures.values())
    assert len(benchmark.tables(store.read("kernels"))[0].rows) == 1


@pytest.mark.parametrize("code", ["sign", "4-bit"])
def test_kernels_on_a_device(here: Path, code: str) -> None:
    settings = {"device": "cpu", "size": "1M", "repeats": 1}
    benchmark, result = toy("kernels-device", f"{code}, 16M", **settings)
    assert result.measures.keys() == device.FIGURES.keys() | {"device", "kernels"}
    assert all(result.measures[name] > 0 for name in device.FIGURES)
    assert len(benchmark.tables(store.read("kernels-device"))[0].rows) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_kernels_without_their_device(here: Path) -> None:
    with pytest.raises(CellError, match="no CUDA device"):
        device.measure({"code": "sign", "size": "1M", "device": "cuda", "repeats": 1})


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch.func's
def test_curvature(here: Path) -> None:
    benchmark, result = toy(
        "curvature", "784-400-10, 512 samples", samples=32, seconds=0, rounds=2, fresh=True
    )
    assert result.measures["rounds"] == 2
    assert result.measures["jobs"]["gradient"]["ratio"] == 1
    assert result.measures["jobs"]["rebuilt"]["ratio"] > 0
    assert "Gauss-Newton" in benchmark.tables(store.read("curvature"))[0].headings


def test_arithmetic_of_one_worker(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "SIMULATED", (2, 4))
    _, result = toy("growth", "arithmetic", values=2**15, repeats=1)
    assert result.measures.keys() == {"2", "4"}
    assert all(row.keys() == set(growth.PARTS) for row in result.measures.values())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_of_hessian_free(here: Path) -> None:
    key = minibatch.key("gauss-newton", 256)
    _, result = toy("minibatch", key, iterations=1)
    assert len(result.measures["curve"]) == 1
    assert runs.reached({key: result}, [key], 1) == "-"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "key", "given"),
    [
        ("exchange", "4 hosts, none, 1M", {"values": "64k", "repeats": 2}),
        ("growth", "2 workers", {"values": 2**15}),
        ("scaling", "2 hosts, 1gbit", {"samples": 64, "repeats": 2}),
        ("frontier", "lm sign", {"steps": 10}),
        ("frontier", "lm 1-bit Adam", {"steps": 10}),
        ("frontier", "lm owner AdamW", {"steps": 10}),
    ],
)
def test_real_workers(here: Path, name: str, key: str, given: dict[str, Any]) -> None:
    benchmark, result = toy(name, key, Place(2), **given)
    assert result.measures
    assert result.wall > 0
    assert name == "exchange" or benchmark.tables({key: result}) is not None


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_perceptron_of_the_frontier(here: Path) -> None:
    _, result = toy("frontier", "mnist recipe, sign", Place(2), epochs=1)
    assert result.measures["test error %"] < 50


def tune(contender: str, place: int, **changed: Any) -> Cell:
    """A few steps of the character transformer."""
    point = grid("transformer", contender)[place]
    (cell,) = [
        cell
        for cell in training.BENCHMARK.cells({})
        if cell.key == tune_key("transformer", contender, point)
    ]
    point |= {"start": 3} if "start" in point else {}
    return replace(cell, settings=cell.settings | {"steps": 6, "point": point} | changed)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "contender", ["thinwire hook, 1 bit", "PowerSGD rank 1", "thinwire optimiser"]
)
def test_cells_of_training_share_a_start_of_the_workers(here: Path, contender: str) -> None:
    todo = [tune(contender, 0), tune(contender, 1)]
    assert todo[0].start == todo[1].start
    run(replace(training.BENCHMARK, cells=lambda _: todo))
    results = store.read("training")
    assert list(results) == [cell.key for cell in todo]
    for result in results.values():
        assert [steps for steps, _ in result.measures["scores"]] == [6]
        assert "steady" in result.measures["phases"]
        assert result.measures["reached"] is None
    assert missing(todo, results) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_cell_of_training_that_fails_does_not_take_the_others_with_it(here: Path) -> None:
    broken = tune("dense", 0, point={"lr": -1.0, "momentum": 0.5})
    run(replace(training.BENCHMARK, cells=lambda _: [broken, tune("dense", 1)]))
    first, second = store.read("training").values()
    assert "ValueError" in (first.error or "")
    assert second.measures["scores"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_bytes_on_the_wires_of_a_laboratory(here: Path) -> None:
    try:
        lab.down("thinwire")
    except lab.LabError as error:
        pytest.skip(str(error))
    _, result = toy("exchange", "2 hosts, 1gbit, 1M", Place(2, "1gbit"), values="64k", repeats=1)
    for name, one in result.measures.items():
        assert one["payload_bytes"] > 0, name
    sign = result.measures["thinwire sign"]
    assert sign["payload_bytes"] < result.measures["dense"]["payload_bytes"] / 10


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_hooks(here: Path) -> None:
    _, result = toy("hooks", "thinwire hook", runs=2)
    assert result.measures == {"ok": 2}
