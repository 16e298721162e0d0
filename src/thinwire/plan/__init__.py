"""The planner: how fast a job would train with how many workers over which wire.

The cost model of [Seide 2014, equations (3) and (4)] (`equations`) is fed with measured costs
(`profile`) and with the bytes of thinwire's own packets (`wire_format`). Measured runs turn speed
into time to a goal (`fitting`). `make_plan` does all of it for a grid of workers and minibatches.
Nothing here communicates, measures or prints.
"""

from thinwire.plan.equations import fixed_cost_limit, k_hat, t_calc
from thinwire.plan.fitting import Fitted, fit_runs
from thinwire.plan.goal import Goal, make_goal
from thinwire.plan.measured_run import method_of, minibatch_of, seconds_per_step
from thinwire.plan.network import ETHERNET_GOODPUT, Link, Network
from thinwire.plan.planner import Plan, make_plan
from thinwire.plan.prediction import Prediction, make_prediction, planned_methods
from thinwire.plan.profile import CodeTimes, Profile, read_profile, write_profile
from thinwire.plan.setting import Setting, make_setting
from thinwire.plan.step import BucketTimes, Costs, Step, predict
from thinwire.plan.subbatch import SubBatchTimes
from thinwire.plan.wire_format import compression

__all__ = [
    "ETHERNET_GOODPUT",
    "BucketTimes",
    "CodeTimes",
    "Costs",
    "Fitted",
    "Goal",
    "Link",
    "Network",
    "Plan",
    "Prediction",
    "Profile",
    "Setting",
    "Step",
    "SubBatchTimes",
    "compression",
    "fit_runs",
    "fixed_cost_limit",
    "k_hat",
    "make_goal",
    "make_plan",
    "make_prediction",
    "make_setting",
    "method_of",
    "minibatch_of",
    "planned_methods",
    "predict",
    "read_profile",
    "seconds_per_step",
    "t_calc",
    "write_profile",
]
