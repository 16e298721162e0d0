"""Whether every worker should hold the whole curvature batch, or a part of it."""

import time

from torch import Tensor

from thinwire.curvature import Cost, CurvatureOperator, Evaluation, Workers, read
from thinwire.optim.newton_options import Curvature
from thinwire.optim.problem import Problem


def faster(problem: Problem, numbers: Tensor, workers: Workers) -> Evaluation[Curvature]:
    """The placement in which a product takes less time on the slowest worker.

    Its products are not among the cost, since they train nothing; what they sent is.

    Args:
        problem: what is minimised.
        numbers: of the curvature batch's samples.
        workers: among whom the samples are spread.
    """
    theta, took, cost = problem.model.read(), list[float](), Cost()
    for holders, replicated in ((workers, False), (workers.alone(), True)):
        drawn = problem.batch(numbers, replicated=replicated)
        B = CurvatureOperator(drawn.result.gauss_newton(theta), holders)
        B @ theta  # the first is slower
        started = time.perf_counter()
        for _ in range(3):
            read([(B @ theta)[0]])  # a device has finished when it can be read
        took.append((time.perf_counter() - started) / 3)
        cost += drawn.cost.sums + B.cost.sums
    every = workers.gather_numbers(took, "timings")
    sharded, whole = (max(times) for times in zip(*every.result, strict=True))
    chosen: Curvature = "replicated" if whole <= sharded else "sharded"
    note = (
        f"curvature batch {chosen}: a product takes {1e3 * sharded:.1f} ms sharded, "
        f"with its all-reduce, and {1e3 * whole:.1f} ms replicated"
    )
    return Evaluation(chosen, cost + every.cost, note)
