"""The convergence of each method, out of several runs."""

from pathlib import Path

import pytest

from tests.plan.examples import write_run
from thinwire.plan import Fitted, fit_runs, make_goal
from thinwire.report import EventLog, load_runs


def fitted(folders: list[Path], metric: str = "train", target: float = 25) -> Fitted:
    runs = load_runs(folders)
    return fit_runs(runs, make_goal(metric, target, runs))


def test_what_runs_say(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", "1-bit SGD", 256, 40)
    found = fitted([run])
    (reached,) = found.reached["1-bit"]
    assert (reached.minibatch, reached.steps, reached.samples) == (256, 80, 80 * 256)
    assert found.laws["1-bit"].samples(256) == 80 * 256
    assert not found.jobs
    with pytest.raises(ValueError, match="target: no run reached 1 % test error"):
        fitted([run], "test", 1)
    with pytest.raises(ValueError, match="metric: no run measured test_loss; choose one"):
        fitted([run], "test_loss", 1)


def test_runs_that_never_got_there_are_named(tmp_path: Path) -> None:
    quick = write_run(tmp_path / "quick", "1-bit SGD", 256, 40)
    slow = tmp_path / "slow"
    with EventLog(slow / "events.jsonl") as log:
        log.write("start", schema=1, method="dense SGD", recipe={"minibatch": 256})
        log.write("epoch", step=10, samples=2560, train_error=0.9)
    found = fitted([quick, slow])
    assert found.failed == {"dense": ["slow"]}
    assert "dense" not in found.reached


def test_sharded_curvature_is_part_of_the_name(tmp_path: Path) -> None:
    run = write_run(tmp_path, "Hessian-free, CG", 9000, 2, "auto")
    assert fitted([run]).jobs["Hessian-free, CG"].replicated
    often = {"step": 10, "products": 10, "candidates": 4, "trials": 3, "alpha": 1.0}
    with EventLog(run / "events.jsonl") as log:
        log.write("step", **often, communications=500)
    assert not fitted([run]).jobs["Hessian-free, CG, sharded"].replicated


def test_runs_of_one_method_with_other_settings_are_not_averaged(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", "Hessian-free, CG", 9000, 2, "sharded", damping=1, iterations=4),
        write_run(tmp_path / "b", "Hessian-free, CG", 9000, 4, "sharded", damping=2, iterations=4),
        write_run(tmp_path / "c", "Hessian-free, CG", 9000, 4, "sharded", damping=2, iterations=5),
        write_run(
            tmp_path / "d", "Hessian-free, CG", 9000, 4, "replicated", damping=3, iterations=4
        ),
    ]
    found = fitted(runs)
    assert {name: len(reached) for name, reached in found.reached.items()} == {
        "Hessian-free, CG, sharded, damping 1": 1,
        "Hessian-free, CG, sharded, damping 2": 2,
        "Hessian-free, CG": 1,
    }
    assert found.jobs.keys() == found.reached.keys()
    assert not found.laws


def test_a_run_of_several_minibatch_sizes_fits_no_law(tmp_path: Path) -> None:
    run = write_run(tmp_path, "1-bit SGD", 256, 40)
    with EventLog(run / "events.jsonl") as log:
        log.write("selection", step=201, before=256, minibatch=512)
    with pytest.raises(ValueError, match="expected one minibatch size all along"):
        fitted([run])
