"""From a recipe to everything a run needs, before anything is trained.

All of the user's mistakes surface here: unreadable data, an unwritable run folder, rates out of
range.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from thinwire.data import Dataset, Split, load_mnist
from thinwire.train.build import build_hessian_free
from thinwire.train.model import build_model
from thinwire.train.recipe import Recipe
from thinwire.train.split import check_split


@dataclass(frozen=True)
class Job:
    """A run that is ready to start.

    Attributes:
        name: the recipe's.
        recipe: the fields.
        dataset: standardised to zero mean and unit variance over all training inputs.
        model: freshly initialised, the same on every worker.
        folder: the run folder; it exists and can be written.
    """

    name: str
    recipe: Recipe
    dataset: Dataset
    model: nn.Module
    folder: Path


def prepare(name: str, recipe: Recipe, progress: Callable[[str], None]) -> Job:
    """Find the data, build the model, make the run folder.

    Args:
        name: the recipe's name.
        recipe: the fields.
        progress: told of downloads, a line each.

    Raises:
        ValueError: malformed data, an optimiser's argument out of range, or a layer that cannot be
            split over ``model_parallel`` workers.
        OSError: data that cannot be read, a folder that cannot be written.
        RuntimeError: MNIST is neither here nor to be had.
    """
    folder = writable_folder(recipe.out or Path("runs") / name)
    dataset = standardise(load_mnist(recipe.data, progress=progress))
    features = dataset.train.inputs.shape[1]
    model = build_model(
        features,
        recipe.model.hidden,
        dataset.classes,
        recipe.model.activation,
        recipe.seed,
        recipe.model.initialisation,
    )
    check_split(model, recipe.model_parallel)
    if recipe.algorithm == "hessian-free":
        build_hessian_free(recipe, model)  # refuses what it cannot work with
    return Job(name, recipe, dataset, model, folder)


def standardise(dataset: Dataset) -> Dataset:
    """Shift and scale all inputs by the training inputs' overall mean and deviation."""
    deviation, mean = torch.std_mean(dataset.train.inputs)
    scale = 1 / deviation.clamp(min=1e-6)

    def shifted(split: Split) -> Split:
        return Split((split.inputs - mean) * scale, split.targets)

    return Dataset(shifted(dataset.train), shifted(dataset.test), dataset.classes, dataset.name)


def writable_folder(folder: Path) -> Path:
    """Make the folder if need be and prove that files can be written in it.

    Raises:
        OSError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if shutil.disk_usage(folder).free < 2**24:
            raise OSError("less than 16 MB of disk left")
    except OSError as error:
        raise OSError(f"run folder {folder}: cannot be written: {error}") from error
    return folder
