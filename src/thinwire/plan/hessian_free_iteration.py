"""A Hessian-free iteration: one gradient reduction, several curvature reductions, a line search.

Each is samples spread over the workers, then one all-reduce of float32; or, with a replicated
curvature batch, products are computed by every worker and not sent. The solver's vector work is
repeated by every worker, so it belongs to the fixed cost T_upd. What a preconditioner costs is not
counted.
"""

from dataclasses import dataclass

from thinwire.plan.equations import crossing
from thinwire.plan.methods import contention
from thinwire.plan.setting import Setting

# Over a vector, for each product: [He 2017, Algorithm 3] does 10 for its two; CG 5 for its one.
SOLVER_PASSES = 5
SCALAR_BYTES = 8


@dataclass(frozen=True)
class Job:
    """What one iteration of Hessian-free training does; counts may be averages.

    Attributes:
        samples: n, of a gradient and of a loss, over all workers.
        batch: b, the samples in the curvature batch.
        gradients: over the n samples, each one reduction; a line search computes its first trial's.
        losses: over the n samples, the other trials of line searches, each one scalar reduction.
        products: with the curvature of the batch.
        candidates: losses over the batch.
        replicated: every worker works on the whole batch and sends nothing; otherwise on its share,
            with one reduction for each product and a scalar one for each candidate.
    """

    samples: float
    batch: float
    gradients: float
    losses: float
    products: float
    candidates: float
    replicated: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ValueError(f"{name}: expected >= 0, got {value}")


@dataclass(frozen=True)
class Iteration:
    """A predicted iteration, in seconds.

    Attributes:
        gradient: forward and backward over all samples.
        curvature: products and candidates.
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
        """The seconds of the iteration; nothing overlaps."""
        return self.gradient + self.curvature + self.search + self.vectors + self.comm


def predict(setting: Setting, job: Job, workers: int) -> Iteration:
    """Predict an iteration on K workers.

    Args:
        setting: machine and network.
        job: what it does.
        workers: K.
    """
    profile, network = setting.profile, setting.network
    slower = contention(setting, workers)

    def computing(samples: float) -> float:
        return slower * profile.compute.variable(samples)

    share, batch = job.samples / workers, job.batch / (1 if job.replicated else workers)
    in_batch = job.products * profile.product_ratio + job.candidates * profile.forward_ratio
    vectors, scalars = job.gradients, job.losses
    if not job.replicated:
        vectors, scalars = vectors + job.products, scalars + job.candidates
    vector = network.all_reduce(4 * profile.values, workers)
    scalar = network.all_reduce(SCALAR_BYTES, workers)
    passes = (1 + job.products) * SOLVER_PASSES * profile.values * profile.apply
    return Iteration(
        gradient=job.gradients * computing(share),
        curvature=in_batch * computing(batch),
        search=job.losses * profile.forward_ratio * computing(share),
        vectors=slower * passes,
        comm=vectors * vector + scalars * scalar,
    )


def k_hat(setting: Setting, job: Job) -> float:
    """Return the workers at which an iteration is half communication (`methods.k_hat`)."""

    def calc(workers: float) -> float:
        made = predict(setting, job, max(1, round(workers)))
        return made.seconds - made.comm

    return crossing(calc, lambda workers: predict(setting, job, max(2, round(workers))).comm)
