"""torch.optim front ends, and what an owner does to its stripe between the two stages."""

from thinwire.optim.hessian_free import HessianFree
from thinwire.optim.local_steps import LocalSteps
from thinwire.optim.newton_report import HessianFreeStep
from thinwire.optim.objective import Objective
from thinwire.optim.onebit_sgd import OneBitSGD
from thinwire.optim.owner import OwnerOptimizer
from thinwire.optim.postprocess import AdaGrad, post_process
from thinwire.optim.progress import StepReport
from thinwire.optim.rates import momentum_from_time_constant, rates_for_batch
from thinwire.optim.snapshot import Snapshot
from thinwire.optim.withdrawal import WithdrawnError

__all__ = [
    "AdaGrad",
    "HessianFree",
    "HessianFreeStep",
    "LocalSteps",
    "Objective",
    "OneBitSGD",
    "OwnerOptimizer",
    "Snapshot",
    "StepReport",
    "WithdrawnError",
    "momentum_from_time_constant",
    "post_process",
    "rates_for_batch",
]
