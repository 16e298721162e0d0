"""A network and a loss of your own under `thinwire train`. In this folder:

thinwire train mnist-sgd --model.factory own_network:network --workers 4
"""

import math
from collections.abc import Callable

from torch import Tensor, nn

CHANNELS = 8


def network(
    *, inputs: int, classes: int, seed: int
) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    """A small convolutional network; torch's random state has been seeded with `seed`."""
    side = math.isqrt(inputs)
    model = nn.Sequential(
        nn.Unflatten(1, (1, side, side)),  # samples come as rows of `inputs` features
        nn.Conv2d(1, CHANNELS, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(CHANNELS * (side // 2) ** 2, classes),
    )
    return model, nn.CrossEntropyLoss(label_smoothing=0.1)  # a mean over the samples
