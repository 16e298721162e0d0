"""The whole plan: predictions for a grid of minibatches and workers, and times to a goal."""

from collections.abc import Sequence
from dataclasses import dataclass

from thinwire.plan.fitting import fit_runs
from thinwire.plan.goal import Goal, make_goal
from thinwire.plan.measured_run import local_method_of
from thinwire.plan.methods import Method
from thinwire.plan.prediction import Prediction, make_prediction, planned_methods
from thinwire.plan.setting import Setting
from thinwire.plan.tables import Table, prediction_tables, target_table
from thinwire.plan.time_to_target import TimesToTarget, times_to_target
from thinwire.report import Run


@dataclass(frozen=True)
class Plan:
    """What the planner says.

    Attributes:
        setting: the machine and the network it is about.
        predictions: one for each minibatch size.
        times: the time to a goal, where runs tell how fast methods converge.
    """

    setting: Setting
    predictions: list[Prediction]
    times: TimesToTarget | None = None

    @property
    def speed_tables(self) -> list[Table]:
        """The tables of every minibatch size."""
        return [
            table
            for prediction in self.predictions
            for table in prediction_tables(prediction, self.setting)
        ]

    @property
    def target_tables(self) -> list[Table]:
        """The table of times to the goal, if there is one."""
        return [] if self.times is None else [target_table(self.times)]


def make_plan(
    setting: Setting,
    workers: list[int],
    minibatches: Sequence[int],
    *,
    model_parallel: int = 1,
    local: Sequence[Method] = (),
    runs: Sequence[Run] = (),
    goal: Goal | None = None,
) -> Plan:
    """Predict every method, and if there are runs the time to the goal.

    Args:
        setting: the machine and the network.
        workers: processors in all, to predict for.
        minibatches: sizes over all workers, to predict for.
        model_parallel: workers that share one model; above 1 such a method is planned too.
        local: methods with local steps to plan too, beside those of ``runs``.
        runs: recorded runs whose convergence turns speed into time to the goal.
        goal: what is to be reached; by default 2.5, or 2.5 %, in the first metric on test samples.

    Raises:
        ValueError: no run reached the goal, or a run lacks what is needed.
    """
    found = [method for run in runs if (method := local_method_of(run)) is not None]
    methods = planned_methods(model_parallel, [*dict.fromkeys([*local, *found])])
    predictions = [make_prediction(setting, methods, n, workers) for n in minibatches]
    times = None
    if runs:
        fitted = fit_runs(runs, goal or make_goal(runs=runs))
        times = times_to_target(setting, methods, fitted, workers)
    return Plan(setting, predictions, times)
