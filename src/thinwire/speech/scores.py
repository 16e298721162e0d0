"""How well each class suits each frame, by a trained network."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CHUNK = 2048  # frames in one forward
_LARGEST = 1 << 26  # values in the matrix of an utterance, as our reader takes them


def log_priors(frames_of: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the logarithm of the share of each class, as if each had one frame at least.

    Args:
        frames_of: frames of each class in training, [classes].
    """
    counts = np.maximum(frames_of, 1).astype(np.float64)
    found: NDArray[np.float32] = np.log(counts / counts.sum()).astype(np.float32)
    return found


class Scorer:
    """Logarithms of scaled likelihoods: log posterior minus log prior [Seide 2014, section 1].

    Args:
        network: frames with their neighbours [N, values] -> logits [N, classes].
        priors: logarithm of the share of each class, [classes].
    """

    def __init__(self, network: Callable[[Tensor], Tensor], priors: NDArray[np.float32]) -> None:
        self._network, self._priors = network, priors

    @property
    def classes(self) -> int:
        """Columns of the scores."""
        return len(self._priors)

    def __call__(self, inputs: Tensor, where: str) -> NDArray[np.float32]:
        """Score the frames of an utterance: `log_posteriors` minus the priors."""
        return self.log_posteriors(inputs, where) - self._priors

    @torch.no_grad()
    def log_posteriors(self, inputs: Tensor, where: str) -> NDArray[np.float32]:
        """Return the logarithms of the probabilities of classes.

        Args:
            inputs: [frames, values].
            where: names the utterance in messages.

        Returns:
            float32 [frames, classes].

        Raises:
            ValueError: the utterance is too long, or the network has no finite outputs for it.
        """
        frames, classes = len(inputs), self.classes
        if frames * classes > _LARGEST:
            raise ValueError(
                f"{where}: expected at most {_LARGEST // classes} frames of {classes} classes, got "
                f"{frames}; split it"
            )
        found = torch.empty(frames, classes)
        for first in range(0, frames, _CHUNK):
            logits = self._network(inputs[first : first + _CHUNK])
            found[first : first + _CHUNK] = torch.log_softmax(logits.float(), dim=1)
        if not bool(found.isfinite().all()):
            raise ValueError(f"{where}: the network's outputs are not finite")
        return found.numpy()
