"""The planner: how fast a job would train with how many workers over which wire.

The cost model of S eq. (3)-(4) (`equations`), fed with measured costs (`profile`) and with the
bytes of thinwire's own packets (`wire_format`). Nothing here communicates or measures.
"""

from thinwire.plan.equations import fixed_cost_limit, k_hat, t_calc
from thinwire.plan.network import ETHERNET_GOODPUT, Link, Network
from thinwire.plan.profile import CodeTimes, Profile, read_profile, write_profile
from thinwire.plan.step import Costs, Step, Wire, predict
from thinwire.plan.subbatch import SubBatchTimes
from thinwire.plan.wire_format import compression

__all__ = [
    "ETHERNET_GOODPUT",
    "CodeTimes",
    "Costs",
    "Link",
    "Network",
    "Profile",
    "Step",
    "SubBatchTimes",
    "Wire",
    "compression",
    "fixed_cost_limit",
    "k_hat",
    "predict",
    "read_profile",
    "t_calc",
    "write_profile",
]
