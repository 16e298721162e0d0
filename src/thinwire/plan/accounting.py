"""The paper's own accounting of what training sends: floats and messages [He 2017].

The formulae are those of the section "Distributed Hessian-free Optimization Algorithms", with n
samples, minibatches of b over all N nodes and layers of widths d_0 (inputs), d_1 .. d_l. They count
a reduction as log2(N) transfers of a whole vector (a tree), where thinwire's ledger counts the
bytes a worker sends.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Accounted:
    """Floats and messages as the paper counts them."""

    floats: float
    messages: float


def sgd_model_parallel(n: float, b: float, widths: Sequence[int]) -> Accounted:
    """Count an epoch of SGD with the weights of each layer split over the nodes.

    Activations go forward and deltas back after each layer: 2 (n/b) b sum d_i floats in 2 l n/b
    messages.

    >>> sgd_model_parallel(1000, 100, [4, 3, 2])
    Accounted(floats=10000.0, messages=40.0)
    """
    steps = n / b
    return Accounted(2 * steps * b * sum(widths[1:]), 2 * (len(widths) - 1) * steps)


def sgd_data_parallel(n: float, b: float, nodes: int, widths: Sequence[int]) -> Accounted:
    """Count an epoch of SGD with the samples split: n/b log(N) M floats in 2 n/b messages.

    The paper prints the sum as d_0 d_i, which counts the weights of the first layer only; d_(i-1)
    d_i is meant and taken here. Biases are left out, as there.

    >>> sgd_data_parallel(1000, 100, 4, [4, 3, 2])
    Accounted(floats=360.0, messages=20.0)
    """
    steps = n / b
    return Accounted(steps * math.log2(nodes) * weights(widths), 2 * steps)


def hessian_free_iteration(
    nodes: int, widths: Sequence[int], products: int, trials: int
) -> Accounted:
    """Count an iteration of Algorithm 2: one gradient, the solver's products, the line search.

    Each of the 1 + ``products`` vectors is reduced and sent back, as in SGD. The paper leaves out
    what the line search sends: one float for each trial, reduced and sent back.

    >>> hessian_free_iteration(4, [4, 3, 2], products=20, trials=3)
    Accounted(floats=762.0, messages=48)
    """
    vectors = 1 + products
    floats = math.log2(nodes) * (vectors * weights(widths) + trials)
    return Accounted(floats, 2 * (vectors + trials))


def weights(widths: Sequence[int]) -> int:
    """Return the weights of a perceptron, biases apart: the sum of d_(i-1) d_i."""
    return sum(a * b for a, b in itertools.pairwise(widths))
