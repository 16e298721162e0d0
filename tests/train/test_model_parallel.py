"""The trainer on a grid of workers, over real ranks."""

import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from tests.fresh_ranks import run_fresh_ranks
from tests.train.test_resume import figures, recipe_of, run_once
from thinwire.report import load_run
from thinwire.train import Job, Recipe, check_grid, make_plan, prepare
from thinwire.train.checkpoint import MODEL
from thinwire.train.recipe import ModelFields
from thinwire.train.split import check_split, whole_state
from thinwire.train.state import MinibatchState

# Four processes that each import torch.
pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

SPLIT = {"model_parallel": 2, "model": ModelFields(hidden=(60, 32))}
DENSE = {**SPLIT, "exchange": {"code": "float32", "start_samples": 0}}
ONE_BIT = {**SPLIT, "optimizer": {"adagrad": "aggregate"}}
# 36-60-32-10: outputs, inputs, and the last layer without partner by its inputs
DIM_OF = {"0.weight": 0, "0.bias": 0, "2.weight": 1, "2.bias": None, "4.weight": 1, "4.bias": None}


def runs(rank: int, world: int, data: Path, folder: Path) -> list[Any]:
    """Dense; one bit; one bit again, stopped in the serial start and in the middle."""
    plan = [("dense", None, DENSE), ("straight", None, ONE_BIT)]
    plan += [("stopped", 2, ONE_BIT), ("stopped", 7, ONE_BIT), ("stopped", None, ONE_BIT)]
    return [run_once(rank, world, data, folder / n, stop, fields) for n, stop, fields in plan]


@pytest.fixture(scope="module")
def trained(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("grid")
    return folder, run_fresh_ranks(4, runs, idx_folder, folder)


def test_dense_on_two_by_two_is_training_alone(
    trained: tuple[Path, list[Any]], idx_folder: Path, tmp_path: Path
) -> None:
    folder, results = trained
    summary = results[0][0][0]
    run_once(0, 1, idx_folder, tmp_path, None, {**DENSE, "model_parallel": 1})
    alone = safetensors.torch.load_file(tmp_path / "model.safetensors")
    found = safetensors.torch.load_file(folder / "dense" / "model.safetensors")
    assert found.keys() == alone.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)
    expected = load_run(tmp_path).summary
    for key in ("params", "steps", "samples", "test_error", "train_error"):
        assert summary[key] == expected[key]
    assert summary["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
    assert summary["workers"] == 4
    assert len({result[0][0]["params_sha256"] for result in results}) == 1


def test_bytes_are_counted_by_what_they_are_for(trained: tuple[Path, list[Any]]) -> None:
    summary = trained[1][0][0][0]
    traffic = {part["stage"]: part for part in summary["traffic"]}
    assert sum(part["bytes"] for part in traffic.values()) == summary["bytes_sent_per_worker"]
    # Samples of a row: half of 20 minibatches, and of 200 test samples twice; all of 600 once.
    trained_on, evaluated = 600, 2 * 100 + 300
    forward, backward = 4 * (32 + 10), 4 * 32  # bytes a sample of outputs, of the gathered input
    activations = (trained_on + evaluated) * forward + trained_on * backward // 2
    assert traffic["activations"]["bytes"] == activations
    values = 60 * 36 // 2 + 60 // 2 + 32 * 60 // 2 + 32 + 10 * 32 // 2 + 10
    assert summary["dense_bytes_per_worker"] == 20 * 4 * values
    between_ranks = ("activations", "whole model", "model agreement")
    rest = summary["bytes_sent_per_worker"] - sum(
        traffic[stage]["bytes"] for stage in between_ranks
    )
    assert summary["compression"] == pytest.approx(20 * 4 * values / rest, rel=1e-3)


def test_a_stopped_run_is_the_same_run(trained: tuple[Path, list[Any]]) -> None:
    for _, straight, *stops, resumed in trained[1]:
        assert [agreed for _, agreed, _ in stops] == [signal.SIGTERM] * 2
        assert figures(resumed[0]) == figures(straight[0])
        assert resumed[0]["replicas_identical"]


def whole_of(workers: list[dict[str, Any]], ways: int) -> dict[str, Tensor]:
    """Every parameter's residuals added up, and its owner state, from all workers' parts."""
    found: dict[str, Tensor] = {}
    for name, dim in DIM_OF.items():
        dim = None if ways == 1 else dim
        key = f"optimizer/{name}.residual"
        columns: dict[str, list[Tensor]] = {}
        for column in (workers[model::ways] for model in range(ways)):
            rows = torch.stack([worker["tensors"][key].double() for worker in column])
            columns.setdefault("residual", []).append(rows.sum(0))
            owners = [worker for worker in column if name in worker["owned"]]
            owners.sort(key=lambda worker: worker["owned"][name])
            for kind in ("owner_residual", "momentum", "adagrad"):
                runs = [owner["tensors"][f"optimizer/{name}.{kind}"] for owner in owners]
                columns.setdefault(kind, []).append(torch.cat(runs).view(rows.shape[1:]))
        for kind, parts in columns.items():
            found[f"{name}.{kind}"] = parts[0] if dim is None else torch.cat(parts, dim)
    return found


def held(rank: int, world: int, data: Path, folder: Path, fields: dict[str, Any]) -> Any:
    """What this worker holds when it has taken up the run's newest checkpoint."""
    job = prepare("tiny", recipe_of(data, folder, **fields), lambda _: None)
    checkpoint = make_plan(job).checkpoint
    assert checkpoint is not None
    state = MinibatchState(job, world)
    state.restore(checkpoint, rank, world)
    tensors, facts = state.own()
    sent = state.optimizer.ledger.total().bytes
    model = whole_state(state.model, state.grid.model(state.optimizer.ledger))
    state.optimizer.close()
    stored = safetensors.torch.load_file(checkpoint.folder / MODEL)
    assert all(torch.equal(model[name], tensor) for name, tensor in stored.items())
    since = (state.since_event + state.since_epoch) / fields["model_parallel"]
    return {
        "tensors": {name: tensor.clone() for name, tensor in tensors.items()},
        "owned": facts["owned"],
        "bytes": sent,
        "since": since,
    }


GRIDS = [(2, 2), (4, 1), (1, 2), (2, 1), (2, 2)]


def take_up(rank: int, world: int, data: Path, folder: Path, number: int) -> Any:
    """What is held at first, and at the end of three steps; the last job does all there are."""
    fields = {**ONE_BIT, "model_parallel": GRIDS[number][1]}
    begin = held(rank, world, data, folder, fields) if number else None
    if number == len(GRIDS) - 1:
        return begin, run_once(rank, world, data, folder, None, fields), None
    done = run_once(rank, world, data, folder, 2, fields)
    return begin, done, held(rank, world, data, folder, fields)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_goes_on_on_other_grids(idx_folder: Path, tmp_path: Path) -> None:
    """From the serial start on; parameters and owner state exact, residuals keep their sum."""
    jobs = [
        run_fresh_ranks(data * ways, take_up, idx_folder, tmp_path / "run", number)
        for number, (data, ways) in enumerate(GRIDS)
    ]
    check_jobs(jobs)


def check_jobs(jobs: list[list[Any]]) -> None:
    for number, (before, after) in enumerate(pairwise(jobs)):
        ends, begins = [result[2] for result in before], [result[0] for result in after]
        assert sum(end["bytes"] for end in ends) == sum(begin["bytes"] for begin in begins)
        totals = [sum(worker["since"] for worker in side) for side in (ends, begins)]
        torch.testing.assert_close(totals[0], totals[1])
        assert {agreed for _, (_, agreed, _), _ in before} == {signal.SIGTERM}
        if number == 0:
            continue  # in the serial start worker 0 has all there is
        old, new = whole_of(ends, GRIDS[number][1]), whole_of(begins, GRIDS[number + 1][1])
        for name, tensor in old.items():
            if name.endswith(".residual"):
                torch.testing.assert_close(new[name], tensor, rtol=1e-6, atol=1e-6)
            else:
                assert torch.equal(new[name], tensor), name
    _, (summary, _, said), _ = jobs[-1][0]
    assert "step 12, written by 2 workers" in said
    assert summary["steps"] == 20
    assert summary["replicas_identical"]


def test_one_worker_goes_on_with_what_four_had(
    trained: tuple[Path, list[Any]], idx_folder: Path, tmp_path: Path
) -> None:
    """2 x 2 -> 1 x 1, from the last checkpoint, with one more epoch."""
    fields = {**ONE_BIT, "model_parallel": 1, "epochs": 3, "resume": str(trained[0] / "straight")}
    begin = held(0, 1, idx_folder, tmp_path / "run", fields)
    assert begin["bytes"] > 0
    summary, _, said = run_once(0, 1, idx_folder, tmp_path / "run", None, fields)
    assert "step 20, written by 4 workers" in said
    assert summary is not None
    assert (summary["steps"], summary["workers"]) == (30, 1)
    assert summary["test_error"] < 0.2


# --- refused before any work ----------------------------------------------------------------------


def test_sizes_that_do_not_divide_are_named(idx_folder: Path, tmp_path: Path) -> None:
    def prepared(hidden: tuple[int, ...], ways: int) -> Job:
        fields = {"model": ModelFields(hidden=hidden), "model_parallel": ways}
        return prepare("tiny", recipe_of(idx_folder, tmp_path / "run", **fields), lambda _: None)

    with pytest.raises(ValueError, match="layer 1: 90 outputs do not divide by 4"):
        prepared((90, 32), 4)
    with pytest.raises(ValueError, match="layer 3: 150 outputs do not divide by 4"):
        prepared((60, 30, 150), 4)
    with pytest.raises(ValueError, match="layer 3: 30 inputs do not divide by 4"):
        prepared((60, 30), 4)
    with pytest.raises(ValueError, match="layer 1: 36 inputs do not divide by 5"):
        prepared((), 5)
    prepared((60, 32), 4)
    prepared((7, 5), 1)


def test_workers_must_fill_whole_models() -> None:
    check_grid(6, 3)
    check_grid(1, 1)
    with pytest.raises(ValueError, match="3 workers do not divide into models of 2"):
        check_grid(3, 2)
    with pytest.raises(ValueError, match="model_parallel: expected >= 1, got 0"):
        Recipe(model_parallel=0)


def test_hessian_free_does_without() -> None:
    with pytest.raises(ValueError, match="model_parallel: algorithm hessian-free does not use it"):
        Recipe(algorithm="hessian-free", model_parallel=2)


def test_only_chains_of_linear_layers_are_split() -> None:
    chain = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Linear(6, 2))
    check_split(chain, 2)
    with pytest.raises(ValueError, match="found BatchNorm1d '1'"):
        check_split(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), 2)
    with pytest.raises(ValueError, match="found Bilinear ''"):
        check_split(nn.Bilinear(2, 2, 2), 2)
    with pytest.raises(ValueError, match="found none"):
        check_split(nn.Sequential(nn.Flatten()), 2)
    check_split(nn.Bilinear(2, 2, 2), 1)
