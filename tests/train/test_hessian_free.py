"""Runs of outer iterations: events, counts, stopping and going on."""

import io
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.conftest import THREADS, RunRanks
from tests.train.test_resume import StopAfter, figures
from thinwire.report import load_run
from thinwire.train import Display, Plan, Recipe, agreement, make_plan, prepare, train
from thinwire.train.counts import SCALAR_STAGES, VECTOR_STAGES
from thinwire.train.fields import HessianFreeFields, ModelFields

MODEL = ModelFields(hidden=(12,), activation="sigmoid", initialisation="torch")


def recipe_of(data: Path, folder: Path, **fields: Any) -> Recipe:
    """Four small iterations."""
    model = fields.pop("model", MODEL)
    own = {"iterations": 4, "curvature_batch": 150, "solver_iterations": 4}
    common = {
        name: fields.pop(name) for name in ("seed", "checkpoint_every", "task") if name in fields
    }
    return Recipe(
        algorithm="hessian-free",
        data=data,
        out=folder,
        model=model,
        hessian_free=HessianFreeFields(**{**own, **fields}),
        **common,
    )


def run_once(
    rank: int, world: int, data: Path, folder: Path, stop: int | None, fields: dict[str, Any]
) -> tuple[dict[str, Any] | None, int, str]:
    """One start of the run on one rank: summary, the signal it stopped for, what it said."""
    torch.set_num_threads(THREADS)
    agreement.PACE = 0.0
    job = prepare("tiny", recipe_of(data, folder, **fields), lambda _: None)
    plan = make_plan(job) if rank == 0 else Plan()
    said = io.StringIO()
    signals = StopAfter(stop if rank == world - 1 else None)
    console = Console(file=said, width=1000) if rank == 0 else None
    summary = train(job, Display(4, console, counter="step"), signals, plan)
    return summary, signals.agreed, said.getvalue()


@pytest.fixture(scope="module")
def two(
    run_ranks: RunRanks, idx_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], str]:
    """An undisturbed run of two workers: folder, summary, what it said."""
    folder = tmp_path_factory.mktemp("hf") / "straight"
    fields = {"curvature": "sharded"}
    (summary, _, said), _ = run_ranks(2, run_once, idx_folder, folder, None, fields)
    return folder, summary, said


def test_every_iteration_tells_what_it_did_and_is_evaluated(
    two: tuple[Path, dict[str, Any], str],
) -> None:
    folder, summary, said = two
    run = load_run(folder)
    assert [event["step"] for event in run.steps] == [1, 2, 3, 4]
    assert [event["step"] for event in run.epochs] == [1, 2, 3, 4]
    for step, epoch in zip(run.steps, run.epochs, strict=True):
        assert step["objective"] == pytest.approx(epoch["train_loss"], rel=1e-5)
        assert step["objective"] <= step["loss_before"]
        assert {"alpha", "damping", "ratio", "kind", "outcome", "products", "trials"} <= set(step)
        assert epoch["exact"] is True
        assert epoch["epoch"] == step["epoch"], "evaluation is no pass"
        assert epoch["communications"] == step["communications"], "evaluation is not counted"
        assert epoch["scalar_communications"] == step["scalar_communications"]
    assert "iteration   4  objective" in said
    assert summary["passes"] == run.steps[-1]["epoch"]
    assert summary["compression"] is None
    assert summary["train_error"] < 0.5


def test_vector_and_scalar_communications_are_counted_apart(
    two: tuple[Path, dict[str, Any], str],
) -> None:
    _, summary, _ = two
    traffic = {part["stage"]: part["collectives"] for part in summary["traffic"]}
    vectors = {stage: n for stage, n in traffic.items() if stage in VECTOR_STAGES}
    scalars = {stage: n for stage, n in traffic.items() if stage in SCALAR_STAGES}
    assert vectors.keys() >= {"initial parameters", "gradient", "curvature products"}
    assert scalars.keys() >= {"inner products", "candidate losses"}
    assert set(traffic) - set(vectors) - set(scalars) <= {"evaluation", "agreement", "checkpoint"}
    assert summary["communications"] == sum(vectors.values())
    assert summary["scalar_communications"] == sum(scalars.values())


def test_a_replicated_solver_communicates_once_an_iteration(
    run_ranks: RunRanks, idx_folder: Path, tmp_path: Path
) -> None:
    summary = run_ranks(2, run_once, idx_folder, tmp_path, None, {"iterations": 2})[0][0]
    assert summary["communications"] <= 1 + 1 + 2, "the parameters, a gradient to begin, one each"


@pytest.mark.parametrize(
    ("world", "fields"),
    [
        (1, {"method": "hybrid"}),
        (2, {"curvature": "sharded"}),
        (2, {"method": "bicgstab", "preconditioner": "diagonal"}),
        (2, {"curvature": "sharded", "codes": ("8-bit", "8-bit")}),
    ],
    ids=str,
)
def test_a_run_stopped_after_every_iteration_is_the_same_run(
    run_ranks: RunRanks, idx_folder: Path, tmp_path: Path, world: int, fields: dict[str, Any]
) -> None:
    straight = run_ranks(world, run_once, idx_folder, tmp_path / "a", None, fields)[0][0]
    for done in (1, 2, 3):
        results = run_ranks(world, run_once, idx_folder, tmp_path / "b", 0, fields)
        assert {agreed for _, agreed, _ in results} == {signal.SIGTERM}
        assert f"stopped by SIGTERM after step {done};" in results[0][2]
    resumed = run_ranks(world, run_once, idx_folder, tmp_path / "b", None, fields)[0][0]
    # Every start counts the samples once; all else is the same.
    starts = 3 if world > 1 else 0
    assert resumed["scalar_communications"] == straight["scalar_communications"] + starts
    same = {**figures(resumed), "scalar_communications": straight["scalar_communications"]}
    assert same == figures(straight)
    one, other = (load_run(tmp_path / name) for name in "ab")
    for event, expected in zip(other.steps, one.steps, strict=True):
        changing = {"seconds", "samples_per_second", "bytes_sent", "scalar_communications"}
        assert {k: v for k, v in event.items() if k not in changing} == {
            k: v for k, v in expected.items() if k not in changing
        }


def test_a_run_goes_on_with_other_numbers_of_workers(
    two: tuple[Path, dict[str, Any], str], run_ranks: RunRanks, idx_folder: Path, tmp_path: Path
) -> None:
    """2 -> 3 -> 1, and the same errors within rounding; traffic keeps its total."""
    sharded = {"curvature": "sharded"}
    assert run_ranks(2, run_once, idx_folder, tmp_path, 0, sharded)[0][1] == signal.SIGTERM
    assert run_ranks(3, run_once, idx_folder, tmp_path, 0, sharded)[0][1] == signal.SIGTERM
    (summary, _, said) = run_ranks(1, run_once, idx_folder, tmp_path, None, sharded)[0]
    assert "written by 3 workers" in said
    assert summary["steps"] == 4
    assert summary["train_loss"] == pytest.approx(two[1]["train_loss"], rel=1e-3)
    assert summary["communications"] > 0


def test_more_iterations_go_on_and_fewer_are_refused(idx_folder: Path, tmp_path: Path) -> None:
    first, _, _ = run_once(0, 1, idx_folder, tmp_path / "a", None, {"iterations": 2})
    again, _, said = run_once(0, 1, idx_folder, tmp_path / "a", None, {"iterations": 2})
    assert first is not None
    assert again is None
    assert "more --hessian-free.iterations go on with it" in said
    longer, _, said = run_once(0, 1, idx_folder, tmp_path / "a", None, {"iterations": 4})
    assert "step 2, written by 1 worker" in said
    straight, _, _ = run_once(0, 1, idx_folder, tmp_path / "b", None, {"iterations": 4})
    assert longer is not None
    assert straight is not None
    assert longer["params_sha256"] == straight["params_sha256"]
    with pytest.raises(ValueError, match=r"it has trained 4.00 iterations, expected 1 in all"):
        run_once(0, 1, idx_folder, tmp_path / "a", None, {"iterations": 1})


def test_another_method_is_another_run(idx_folder: Path, tmp_path: Path) -> None:
    run_once(0, 1, idx_folder, tmp_path, 0, {})
    with pytest.raises(ValueError, match=r"hessian_free.method was gauss-newton, now it is cg"):
        run_once(0, 1, idx_folder, tmp_path, 0, {"method": "cg"})


def test_an_objective_that_is_not_finite_ends_the_run(idx_folder: Path, tmp_path: Path) -> None:
    job = prepare("tiny", recipe_of(idx_folder, tmp_path), lambda _: None)
    job.dataset.train.inputs[300] = float("inf")
    with pytest.raises(FloatingPointError, match="iteration 1"):
        train(job, Display(4, None))


def test_arguments_the_optimiser_refuses_are_refused_before_anything_is_trained(
    idx_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="warm_start: expected 0 to 1, got 2"):
        prepare("tiny", recipe_of(idx_folder, tmp_path, warm_start=2.0), lambda _: None)
    with pytest.raises(ValueError, match="float33"):
        recipe_of(idx_folder, tmp_path, codes=("float32", "float33"))
