"""Mixtures of Gaussians with diagonal covariances, a mixture for each state."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST_VARIANCE = 0.01  # of that of all frames
_LEAST_FRAMES = 10.0
_APART = 0.2  # standard deviations by which the halves of a split component move


@dataclass(frozen=True)
class Mixtures:
    """The mixtures of all states.

    Attributes:
        weights: float64 [states, components].
        means: float64 [states, components, values].
        variances: float64 [states, components, values].
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]

    def scores(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logarithms of likelihoods, float32 [frames, states]."""
        states, components = self.weights.shape
        by_component = self._component_scores(frames).reshape(len(frames), states, components)
        return np.asarray(_log_sum(by_component), np.float32)

    def _component_scores(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logarithms of weighted densities, float32 [frames, states * components]."""
        values = self.means.shape[-1]
        means, precisions = self.means.reshape(-1, values), 1 / self.variances.reshape(-1, values)
        constant = np.log(self.weights.reshape(-1)) - 0.5 * (
            (means**2 * precisions).sum(1) - np.log(precisions).sum(1) + values * np.log(2 * np.pi)
        )
        linear = frames @ (means * precisions).T.astype(np.float32)
        square = frames**2 @ (-0.5 * precisions).T.astype(np.float32)
        return np.asarray(linear + square + constant.astype(np.float32), np.float32)

    def of_state(self, state: int) -> "Mixtures":
        """Return the mixture of one state."""
        one = slice(state, state + 1)
        return Mixtures(self.weights[one], self.means[one], self.variances[one])


def fit(
    frames: NDArray[np.float32],
    states: NDArray[np.int64],
    count: int,
    start: Mixtures | None = None,
) -> Mixtures:
    """Return mixtures that suit frames better than those at the start (a step of EM).

    Args:
        frames: features, [frames, values].
        states: the state of each frame.
        count: of the states.
        start: mixtures to begin with; None: single Gaussians are fitted.
    """
    values = frames.shape[1]
    everything = frames.var(0, dtype=np.float64), frames.mean(0, dtype=np.float64)
    if start is None:
        shape = (count, 1, values)
        means = np.broadcast_to(everything[1], shape)
        start = Mixtures(np.ones((count, 1)), means, np.broadcast_to(everything[0], shape))
    order = np.argsort(states, kind="stable")
    edges = np.searchsorted(states[order], np.arange(count + 1))
    weights, means, variances = start.weights.copy(), start.means.copy(), start.variances.copy()
    for state in range(count):
        own = frames[order[edges[state] : edges[state + 1]]]
        if len(own) < _LEAST_FRAMES:
            continue
        shares = start.of_state(state)._component_scores(own).astype(np.float64)
        shares = np.exp(shares - _log_sum(shares)[:, None])
        mass = shares.sum(0)
        kept = mass >= _LEAST_FRAMES
        weights[state] = np.maximum(mass, 1.0) / np.maximum(mass, 1.0).sum()
        first = shares.T @ own / np.maximum(mass, 1e-9)[:, None]
        second = shares.T @ own.astype(np.float64) ** 2 / np.maximum(mass, 1e-9)[:, None]
        means[state, kept] = first[kept]
        floor = _LEAST_VARIANCE * everything[0]
        variances[state, kept] = np.maximum(second - first**2, floor)[kept]
    return Mixtures(weights, means, variances)


def divide(mixtures: Mixtures) -> Mixtures:
    """Return mixtures of twice as many components, the halves of each a little apart."""
    apart = _APART * np.sqrt(mixtures.variances)
    return Mixtures(
        np.concatenate([mixtures.weights, mixtures.weights], 1) / 2,
        np.concatenate([mixtures.means - apart, mixtures.means + apart], 1),
        np.concatenate([mixtures.variances, mixtures.variances], 1),
    )


def _log_sum(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the logarithm of the sum of exponentials over the last dimension."""
    highest = values.max(-1)
    total: NDArray[np.floating] = highest + np.log(np.exp(values - highest[..., None]).sum(-1))
    return total
