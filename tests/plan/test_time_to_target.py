"""Time to a goal."""

import pytest

from tests.plan.examples import JOB, setting
from thinwire.plan import Fitted, make_goal, planned_methods
from thinwire.plan.convergence import Reached, fit
from thinwire.plan.hessian_free_iteration import predict
from thinwire.plan.methods import ONE_BIT, step
from thinwire.plan.time_to_target import hessian_free_time, sgd_time, times_to_target


def test_time_to_the_target_is_steps_times_a_step() -> None:
    law = fit([Reached(500, 0, 100_000), Reached(4000, 0, 200_000)])
    answer = sgd_time(setting(), ONE_BIT, law, 4)
    assert answer is not None
    made = step(setting(), ONE_BIT, answer.minibatch, 4)
    assert made is not None
    assert answer.seconds == pytest.approx(law.steps(answer.minibatch) * made.seconds)
    assert 500 <= answer.minibatch <= 4000
    crowded = sgd_time(setting(), ONE_BIT, law, 64)
    assert crowded is not None
    assert crowded.minibatch >= answer.minibatch  # more workers want larger minibatches


def test_time_of_hessian_free_runs_is_their_iterations_times_one() -> None:
    runs = [Reached(60_000, 9, 1_400_000), Reached(60_000, 11, 1_400_000)]
    answer = hessian_free_time(setting(), runs, JOB, 4)
    assert answer.steps == 10
    assert answer.seconds == pytest.approx(10 * predict(setting(), JOB, 4).seconds)


def test_methods_without_runs_borrow_the_convergence_of_what_they_are_made_of() -> None:
    runs = [Reached(500, 200, 100_000), Reached(4000, 50, 200_000)]
    fitted = Fitted(make_goal(), {"1-bit": runs}, {}, {"1-bit": fit(runs)}, {})
    times = times_to_target(setting(), planned_methods(2), fitted, [1, 4])
    assert list(times.by_method) == ["1-bit", "1-bit DB", "1-bit MP2"]
    assert times.borrowed == {"1-bit DB", "1-bit MP2"}
    assert times.by_method["1-bit MP2"][0] is None  # one worker does not divide by two
    assert times.by_method["1-bit"][1] == sgd_time(setting(), ONE_BIT, fit(runs), 4)
