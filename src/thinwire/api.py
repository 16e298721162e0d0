"""The public names, grouped by what they are for; ``thinwire`` has all of them."""

from importlib.metadata import version

from thinwire import models
from thinwire.curvature import GaussNewtonOperator, HessianOperator, gradient
from thinwire.dcp import saved_states
from thinwire.ddp import OneBitState, onebit_hook
from thinwire.drop_in import compress
from thinwire.exchange import ExchangeConfig, Ledger, Traffic, reshard, simulate
from thinwire.fsdp import OneBitReduceScatter, ShardedState
from thinwire.optim import (
    HessianFree,
    HessianFreeStep,
    LocalSteps,
    Objective,
    OneBitSGD,
    OwnerOptimizer,
    Snapshot,
    StepReport,
    WithdrawnError,
    momentum_from_time_constant,
    rates_for_batch,
)
from thinwire.quantize import Columns, ErrorFeedback, FlatSpace, Float32Code, SignCode

__version__ = version("thinwire")

__all__ = [  # noqa: RUF022 (grouped)
    # optimisers in place of DistributedDataParallel
    "OneBitSGD",
    "OwnerOptimizer",
    "StepReport",
    "WithdrawnError",
    "momentum_from_time_constant",
    "rates_for_batch",
    # rounds of local steps by any torch optimiser
    "LocalSteps",
    # under DistributedDataParallel and FSDP2
    "compress",
    "OneBitState",
    "onebit_hook",
    "ShardedState",
    "OneBitReduceScatter",
    # Hessian-free
    "HessianFree",
    "HessianFreeStep",
    "Objective",
    # curvature, for methods of your own
    "GaussNewtonOperator",
    "HessianOperator",
    "gradient",
    # what is kept, and what was sent
    "Ledger",
    "Snapshot",
    "Traffic",
    "reshard",
    "saved_states",
    # building blocks
    "Columns",
    "ErrorFeedback",
    "ExchangeConfig",
    "FlatSpace",
    "Float32Code",
    "SignCode",
    "models",
    "simulate",
    "__version__",
]
