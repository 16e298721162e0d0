"""Equations (3) and (4) of [Seide 2014, section 2] as functions, with the paper's symbols.

And, in the same style, those of rounds of local steps, which the paper does not have.

=============  =====================================================================================
K              compute nodes (workers)
N              samples in a minibatch, over all nodes
T_frm          T_calc^frm, seconds to process one sample; divides by K
C_T_post       C T_calc^post, seconds of component-wise post-processing of the whole model (C
               passes, such as momentum and AdaGrad); divides by K, since owners share it
T_upd          T_calc^upd, seconds of work on the whole model that every node repeats
T_comm         T_comm^float / Z, seconds to exchange all sub-gradients once, as they travel
halves         2 with half-batch double buffering [section 2.2], 1 without: the "ominous /2"
H              local steps in a round: steps of each node's own from one exchange to the next
D              steps of the next round beside which the exchange goes on, D < H; 0 waits for it
T_local        seconds of a local step: (N / K) T_frm and the node's own update of the whole model
T_fixed        seconds a node computes once in a round: C T_post / K + T_upd
=============  =====================================================================================

The communication time is a constant here, as in [Seide 2014, section 3.1]: each node sends
M (K - 1) / K values in each of two stages, which tends to 2 M. `thinwire.plan.network` has the
terms that do grow with K.
"""

import math
from collections.abc import Callable

WIRE_SHARE = 0.1
"""The most that the wire may add to a round's local steps where it is said not to limit."""


def t_calc(
    K: float, N: float, T_frm: float, C_T_post: float, T_upd: float, *, halves: int = 2
) -> float:
    """Return the seconds a node computes for each exchange.

    They are (N / halves T_frm + C T_post) / K + T_upd.

    >>> t_calc(4, 1000, 0.001, 0.02, 0.01)
    0.14
    """
    return (N / halves * T_frm + C_T_post) / K + T_upd  # the left side of eq. (3)


def k_hat(
    N: float, T_frm: float, C_T_post: float, T_upd: float, T_comm: float, *, halves: int = 2
) -> float:
    """Return the number of nodes at which T_calc(K) = T_comm [equation (3)], by equation (4).

    With double buffering both happen at once and K-hat saturates both. Without it (``halves=1``)
    they follow each other; K-hat is then where a step is half exchange, beyond which adding nodes
    can at most halve its time again.

    Returns:
        K-hat, not rounded; infinity where communication is not slower than the fixed cost: then
        it can never be saturated, and the fixed cost limits the speed-up [section 2.3].

    >>> k_hat(1000, 0.001, 0.02, 0.01, 0.14)
    4.0
    >>> k_hat(1000, 0.001, 0.02, 0.01, 0.01)
    inf
    """
    if T_comm <= T_upd:
        return math.inf
    return (N / halves * T_frm + C_T_post) / (T_comm - T_upd)  # eq. (4)


def step_seconds(calc: float, T_comm: float, *, halves: int = 2) -> float:
    """Return the seconds of one minibatch, from the seconds of one T_calc and one T_comm.

    With double buffering each half takes the longer of the two. Without it they add up:
    "T_comm has to be added into the fixed cost" [section 5.1].

    >>> step_seconds(0.14, 0.05), step_seconds(0.14, 0.05, halves=1)
    (0.28, 0.19)
    """
    return halves * max(calc, T_comm) if halves > 1 else calc + T_comm


def fixed_cost_limit(
    N: float, T_frm: float, C_T_post: float, T_upd: float, T_comm: float, *, halves: int = 2
) -> float:
    """Return the speed-up over one node that no number of nodes reaches [section 2.3, footnote 5].

    One node computes N T_frm + C T_post + T_upd and exchanges nothing; infinitely many nodes still
    spend the fixed cost.

    >>> round(fixed_cost_limit(1000, 0.001, 0.02, 0.01, 0.005), 2)
    51.5
    """
    alone = N * T_frm + C_T_post + T_upd
    limit = step_seconds(T_upd, T_comm, halves=halves)
    return alone / limit if limit > 0 else math.inf


def round_seconds(H: int, D: int, T_local: float, T_fixed: float, T_comm: float) -> float:
    """Return the seconds of a round of local steps.

    They are H T_local + T_fixed + max(0, T_comm - D T_local): the first D steps of the next round
    hide the wire as long as they last. Without delay, D = 0, all adds up.

    >>> round_seconds(8, 0, 0.1, 0.05, 0.3), round_seconds(8, 2, 0.1, 0.05, 0.3)
    (1.15, 0.95)
    >>> round_seconds(8, 4, 0.1, 0.05, 0.3)
    0.85
    """
    exposed = max(0.0, T_comm - D * T_local)
    return round(H * T_local + T_fixed + exposed, 15)


def h_hat(D: int, T_local: float, T_comm: float, *, share: float = WIRE_SHARE) -> int:
    """Return H-hat, the smallest number of local steps at which the wire no longer limits.

    That is where the part of the exchange that the delay does not hide takes at most a share f of
    the round's local steps, max(0, T_comm - D T_local) <= f H T_local:

        H-hat = max(D + 1, ceil((T_comm / T_local - D) / f))

    It says what the wire asks for, not what learning stands: beyond it more local steps save bytes
    and no time worth having.

    Args:
        D: see above.
        T_local: see above, > 0.
        T_comm: see above.
        share: f.

    >>> h_hat(0, 0.1, 0.3), h_hat(2, 0.1, 0.3), h_hat(3, 0.1, 0.3)
    (30, 10, 4)
    """
    exposed = T_comm / T_local - D
    return max(D + 1, math.ceil(round(exposed / share, 9)))


def crossing(
    calc: Callable[[float], float], comm: Callable[[float], float], *, limit: float = 1e6
) -> float:
    """Return K-hat where neither side is as simple as equation (4) has it: calc(K) = comm(K).

    Args:
        calc: seconds a node computes for each exchange, falling with K.
        comm: seconds of an exchange, not falling with K; only asked for K >= 2.
        limit: where to stop looking.

    Returns:
        K-hat >= 1 to one part in a thousand; infinity if there is none up to the limit.

    >>> round(crossing(lambda K: 1 / K, lambda K: 0.01))
    100
    """
    low, high = 1.0, 2.0
    while calc(high) > comm(high):
        low, high = high, 2 * high
        if high > limit:
            return math.inf
    if low < 2 and calc(1.0) <= comm(2.0):
        return 1.0
    while high > 1.0005 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if calc(middle) > comm(max(middle, 2.0)) else (low, middle)
    return math.sqrt(low * high)
