"""Loss and gradient at one theta, and the proof that all workers stand there.

Every scalar on which a branch is taken is a sum over workers. In a replicated solve it is computed
by each worker from the same samples instead; hashes of theta that ride with its gradient prove that
all came to the same step before any takes it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thinwire.curvature import Cost, Evaluation, Workers
from thinwire.exchange import CodedSum
from thinwire.optim.problem import Summands
from thinwire.search import Direction


@dataclass(frozen=True, eq=False)
class Point:
    """What is known at theta.

    Attributes:
        theta: [P].
        loss: f, over all samples.
        gradient: g, over all samples, [P].
        fisher: of the curvature batch, if it rode along with the gradient.
    """

    theta: Tensor
    loss: float
    gradient: Tensor
    fisher: Tensor | None = None


def evaluate(
    theta: Tensor,
    full: Summands,
    fisher: Callable[[Tensor], Tensor] | None,
    workers: Workers,
    coded: CodedSum | None = None,
    direction: Direction | None = None,
) -> Evaluation[Point | None]:
    """f, g and what rides along, at one theta: one sum of vectors.

    Args:
        theta: [P].
        full: this worker's share of all samples.
        fisher: computes this worker's summand of the Fisher matrix, which then rides along.
        workers: who holds the samples.
        coded: sums the gradient by a code; what rides along then has a sum of its own.
        direction: what theta is a trial of.

    Returns:
        The point; None, on every worker alike, if they hold different thetas or directions.
    """
    loss, gradient = full.gradient(theta)
    prints = _fingerprint(theta, direction) if workers.world > 1 else []
    summands = [] if coded else [gradient]
    summands += [fisher(theta)] if fisher else []
    message = torch.cat(summands) if summands else gradient.new_empty(0)
    summed = workers.sum(message, [loss, *prints], "gradient")
    cost = Cost(gradients=1, fishers=int(fisher is not None)) + summed.cost
    total, (loss, *sums) = summed.result
    if not _all_alike(prints, sums, workers.world):
        return Evaluation(None, cost)
    if coded:
        g = workers.sum_coded(gradient, coded, "gradient")
        return Evaluation(Point(theta, loss, g.result, total if fisher else None), cost + g.cost)
    size = len(theta)
    return Evaluation(Point(theta, loss, total[:size], total[size:] if fisher else None), cost)


def _fingerprint(theta: Tensor, direction: Direction | None) -> list[float]:
    """Eight 6-bit hashes h of what must be the same on every worker, each with its square.

    So small that their sums over 4096 workers are exact in float32.
    """
    digest = hashlib.blake2b(theta.cpu().numpy().tobytes(), digest_size=8)
    if direction is not None:
        digest.update(repr((direction.kind, direction.numbers)).encode())
    return [float(n) for byte in digest.digest() for n in (byte % 64, (byte % 64) ** 2)]


def _all_alike(own: Sequence[float], sums: Sequence[float], world: int) -> bool:
    """Whether all hashes are this worker's: sum h = K h and sum h^2 = K h^2 leave no variance.

    If they are not all alike, no worker finds them so.
    """
    return all(total == world * h for h, total in zip(own, sums, strict=True))
