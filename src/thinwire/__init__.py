"""thinwire: train neural networks in parallel when the wire is the bottleneck."""

from importlib.metadata import version

from thinwire import models
from thinwire.curvature import GaussNewtonOperator, HessianOperator, gradient
from thinwire.dcp import saved_states
from thinwire.ddp import OneBitState, onebit_hook
from thinwire.exchange import ExchangeConfig, Ledger, Traffic, reshard, simulate
from thinwire.fsdp import OneBitReduceScatter
from thinwire.optim import (
    HessianFree,
    HessianFreeStep,
    Objective,
    OneBitSGD,
    OwnerOptimizer,
    Snapshot,
    StepReport,
    momentum_from_time_constant,
    rates_for_batch,
)
from thinwire.quantize import Columns, ErrorFeedback, FlatSpace, Float32Code, SignCode

__version__ = version("thinwire")

__all__ = [
    "Columns",
    "ErrorFeedback",
    "ExchangeConfig",
    "FlatSpace",
    "Float32Code",
    "GaussNewtonOperator",
    "HessianFree",
    "HessianFreeStep",
    "HessianOperator",
    "Ledger",
    "Objective",
    "OneBitReduceScatter",
    "OneBitSGD",
    "OneBitState",
    "OwnerOptimizer",
    "SignCode",
    "Snapshot",
    "StepReport",
    "Traffic",
    "__version__",
    "gradient",
    "models",
    "momentum_from_time_constant",
    "onebit_hook",
    "rates_for_batch",
    "reshard",
    "saved_states",
    "simulate",
]
