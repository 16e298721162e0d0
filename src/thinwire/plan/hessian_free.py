"""The Hessian-free job: one gradient reduction, several curvature reductions, a line search.

Each is samples spread over the workers, then one all-reduce of float32 (DESIGN: one reduction for
each gradient or product). The solver's vector work is repeated by every worker, so it is H's T_upd.
"""

from dataclasses import dataclass

from thinwire.plan.equations import crossing
from thinwire.plan.methods import Setting, contention

SOLVER_PASSES = (
    5  # over a vector, a product: H Algorithm 3 does 10 for its two; CG does 5 for its one
)
SCALAR_BYTES = 8


@dataclass(frozen=True)
class Job:
    """What one iteration of Hessian-free training does; counts may be averages.

    Attributes:
        gradient_samples: samples the gradient is the mean over, over all workers.
        curvature_samples: samples of each product.
        products: curvature products, each one reduction.
        trials: losses the line search evaluates, each one scalar reduction.
        trial_samples: samples of each.
    """

    gradient_samples: float
    curvature_samples: float
    products: float
    trials: float
    trial_samples: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ValueError(f"{name}: expected >= 0, got {value}")


@dataclass(frozen=True)
class Iteration:
    """A predicted iteration, in seconds.

    Attributes:
        gradient: forward and backward over the gradient's samples.
        curvature: the products.
        search: the losses.
        vectors: the solver's vector work.
        comm: all reductions.
    """

    gradient: float
    curvature: float
    search: float
    vectors: float
    comm: float

    @property
    def seconds(self) -> float:
        """How long an iteration takes; nothing overlaps."""
        return self.gradient + self.curvature + self.search + self.vectors + self.comm


def predict(setting: Setting, job: Job, workers: int) -> Iteration:
    """An iteration on K workers.

    Args:
        setting: machine and network.
        job: what it does.
        workers: K.
    """
    profile, network = setting.profile, setting.network
    slower = contention(setting, workers)

    def computing(samples: float) -> float:
        return slower * profile.compute.variable(samples / workers)

    vector = network.all_reduce(4 * profile.values, workers)
    scalar = network.all_reduce(SCALAR_BYTES, workers)
    passes = (1 + job.products) * SOLVER_PASSES * profile.values * profile.apply
    return Iteration(
        gradient=computing(job.gradient_samples),
        curvature=job.products * profile.product_ratio * computing(job.curvature_samples),
        search=job.trials * profile.forward_ratio * computing(job.trial_samples),
        vectors=slower * passes,
        comm=(1 + job.products) * vector + job.trials * scalar,
    )


def k_hat(setting: Setting, job: Job) -> float:
    """The workers at which an iteration is half communication (`methods.k_hat`)."""

    def calc(workers: float) -> float:
        made = predict(setting, job, max(1, round(workers)))
        return made.seconds - made.comm

    return crossing(calc, lambda workers: predict(setting, job, max(2, round(workers))).comm)
