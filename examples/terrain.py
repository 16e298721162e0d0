"""A data set of your own under `thinwire train`: how high is the ground here? In this folder:

thinwire train terrain.toml --workers 2

The heights are real, of the Jacksboro fault in Tennessee; matplotlib brings the file along.
"""

import numpy as np
import torch
from matplotlib import cbook
from torch.utils.data import Subset, TensorDataset

STRIDE = 3  # every third point in each direction
WAVES = torch.pi * torch.tensor([1, 2, 4, 8, 16])


def elevation() -> tuple[Subset, Subset]:
    """Training and test samples: waves of longitude and latitude -> height, in deviations."""
    with cbook.get_sample_data("jacksboro_fault_dem.npz") as file:
        heights = torch.from_numpy(file["elevation"].astype(np.float32))[::STRIDE, ::STRIDE]
    places = torch.cartesian_prod(*(torch.linspace(-1, 1, size) for size in heights.shape))
    angles = (places[:, :, None] * WAVES).flatten(1)
    inputs = torch.cat([places, angles.sin(), angles.cos()], 1)
    targets = (heights.flatten() - heights.mean()) / heights.std()
    samples = TensorDataset(inputs, targets)
    numbers = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
    held_back = len(samples) // 10
    return Subset(samples, numbers[held_back:]), Subset(samples, numbers[:held_back])
