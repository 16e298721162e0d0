"""A perceptron that tells classes from frames and their neighbours."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

SPLICE = 4
HIDDEN = 512
_BATCH = 256
_RATE = 1e-3
_FRAMES_AT_ONCE = 8192
_PREFIX = "network."


class Network:
    """A perceptron of two hidden layers.

    Args:
        values: features of a frame.
        classes: number of outputs.
        seed: of its parameters and of the order of frames.

    Attributes:
        classes: number of outputs.
    """

    def __init__(self, values: int, classes: int, seed: int) -> None:
        torch.manual_seed(seed)
        self._seed = seed
        self.classes = classes
        self._layers = nn.Sequential(
            nn.Linear(values * (2 * SPLICE + 1), HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, classes),
        )

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return its parameters by name."""
        parameters = self._layers.state_dict().items()
        return {f"{_PREFIX}{name}": value.numpy() for name, value in parameters}

    def load(self, stored: Mapping[str, NDArray[np.generic]], *, body_only: bool) -> None:
        """Take over parameters, as `arrays` returns them, if they are there.

        Args:
            stored: other arrays in it are ignored.
            body_only: only those of the hidden layers.
        """
        last = f"{len(self._layers) - 1}."
        found = {
            name.removeprefix(_PREFIX): torch.from_numpy(np.asarray(value))
            for name, value in stored.items()
            if name.startswith(_PREFIX)
        }
        if body_only:
            found = {name: value for name, value in found.items() if not name.startswith(last)}
        self._layers.load_state_dict(found, strict=False)

    def train(
        self,
        frames: NDArray[np.float32],
        begins: NDArray[np.int64],
        labels: NDArray[np.int64],
        tell: Callable[[float], None],
    ) -> None:
        """Go through all frames once, in random order, with a rate that falls to 0.

        Args:
            frames: features, [frames, values].
            begins: the first frame of each utterance, and behind them the number of all frames.
            labels: the class of each frame.
            tell: told which part is done, from 0 to 1.
        """
        inputs, neighbours = torch.from_numpy(frames), _neighbours(begins)
        targets = torch.from_numpy(labels)
        order = torch.from_numpy(np.random.default_rng(self._seed).permutation(len(frames)))
        optimizer = torch.optim.Adam(self._layers.parameters(), _RATE)
        steps = -(-len(order) // _BATCH)
        for step, chosen in enumerate(order.split(_BATCH)):
            optimizer.param_groups[0]["lr"] = _RATE * (1 - step / steps)
            loss = F.cross_entropy(self._outputs(inputs, neighbours[chosen]), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 50 == 0:
                tell(step / steps)

    @torch.no_grad()
    def log_posteriors(
        self, frames: NDArray[np.float32], begins: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return logarithms of the probabilities of classes, float32 [frames, classes].

        Args:
            frames: features of whole utterances, [frames, values].
            begins: as `train` takes them.
        """
        inputs, neighbours = torch.from_numpy(frames), _neighbours(begins)
        found = [
            F.log_softmax(self._outputs(inputs, chosen), 1)
            for chosen in neighbours.split(_FRAMES_AT_ONCE)
        ]
        return np.asarray(torch.cat(found).numpy(), np.float32)

    def _outputs(self, frames: Tensor, neighbours: Tensor) -> Tensor:
        outputs: Tensor = self._layers(frames[neighbours].flatten(1))
        return outputs


def _neighbours(begins: NDArray[np.int64]) -> Tensor:
    """Return the numbers of the frames that make the input of each, int64 [frames, 9].

    Beyond an utterance its first and last frame are repeated.
    """
    lengths = np.diff(begins)
    at = np.arange(int(begins[-1]))[:, None] + np.arange(-SPLICE, SPLICE + 1)
    lowest = np.repeat(begins[:-1], lengths)[:, None]
    highest = np.repeat(begins[1:] - 1, lengths)[:, None]
    return torch.from_numpy(np.clip(at, lowest, highest))
