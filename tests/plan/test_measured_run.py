"""What one recorded run tells the planner."""

from pathlib import Path

import pytest

from tests.plan.examples import write_run
from thinwire.plan import method_of, minibatch_of, seconds_per_step
from thinwire.plan.convergence import CoursePoint
from thinwire.plan.measured_run import course_of, iteration_of
from thinwire.report import EventLog, load_run


def test_evaluations_and_paces(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path, "1-bit SGD", 256, 40))
    assert seconds_per_step(run) == pytest.approx([1 / 40] * 3)
    assert course_of(run, "train_error")[:2] == [
        CoursePoint(40, 40 * 256, 0.5),
        CoursePoint(80, 80 * 256, 0.25),
    ]
    assert course_of(run, "test_loss") == []


def test_the_cold_start_has_no_part_in_the_pace(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        log.write("start", schema=1)
        log.write("step", step=1, seconds=50.0, phase="cold start")
        for step in (2, 4, 5):
            log.write("step", step=step, seconds=50.0 + step**2, phase="steady")
    assert seconds_per_step(load_run(tmp_path)) == [6.0, 9.0]


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("dense SGD", "dense"),
        ("sgd", "dense"),
        ("1-bit SGD", "1-bit"),
        ("onebit", "1-bit"),
        ("1-bit SGD, double-buffered", "1-bit DB"),
    ],
)
def test_methods_have_the_planners_names(tmp_path: Path, said: str, named: str) -> None:
    assert method_of(load_run(write_run(tmp_path, said, 256, 40))) == named


def test_double_buffering_is_seen_in_the_recipe(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        log.write("start", schema=1, method="onebit", recipe={"exchange": {"double_buffer": True}})
    assert method_of(load_run(tmp_path)) == "1-bit DB"


def test_a_method_that_the_planner_does_not_know_is_refused(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path, "Muon", 256, 40))
    with pytest.raises(ValueError, match="method: expected dense, 1-bit or Hessian-free, got 'Mu"):
        method_of(run)


def test_how_a_run_of_automatic_curvature_decided_is_seen_by_what_it_sent(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "Hessian-free, CG", 9000, 2, "auto")
    assert iteration_of(load_run(folder)).replicated
    often = {"step": 10, "products": 10, "candidates": 4, "trials": 3, "alpha": 1.0}
    with EventLog(folder / "events.jsonl") as log:
        log.write("step", **often, communications=500)
    assert not iteration_of(load_run(folder)).replicated


def test_a_hessian_free_run_that_does_not_tell_its_iterations_is_refused(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "a", "Hessian-free, CG", 9000, 2))
    with pytest.raises(ValueError, match=r"a: expected train_samples, hessian_free.curvature_ba"):
        iteration_of(run)
    folder = write_run(tmp_path / "b", "Hessian-free, CG", 9000, 2, "sharded")
    with EventLog(folder / "events.jsonl") as log:
        log.write("step", step=9, products=3)
    with pytest.raises(ValueError, match=r"b: expected products, candidates, trials, alpha in ev"):
        iteration_of(load_run(folder))


def test_a_run_of_several_minibatch_sizes_has_no_minibatch(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "1-bit SGD", 256, 40)
    with EventLog(folder / "events.jsonl") as log:
        log.write("selection", step=200, before=256, minibatch=256)
    assert minibatch_of(load_run(folder)) == 256
    with EventLog(folder / "events.jsonl") as log:
        log.write("selection", step=201, before=256, minibatch=512)
    with pytest.raises(ValueError, match="expected one minibatch size all along"):
        minibatch_of(load_run(folder))
