"""From a recipe to everything a run needs, before anything is trained.

All of the user's mistakes surface here: unreadable data, an unwritable run folder, rates out of
range.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from thinwire.data import Dataset, Split, hold_out, load_mnist
from thinwire.train.build import build_hessian_free
from thinwire.train.model import build_model
from thinwire.train.recipe import Recipe


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
        ValueError: malformed data, or an optimiser's argument out of range.
        OSError: data that cannot be read, a folder that cannot be written.
        RuntimeError: MNIST is neither here nor to be had.
    """
    folder = writable_folder(recipe.out or Path("runs") / name)
    dataset = load_mnist(recipe.data, progress=progress)
    if recipe.decay.held_out:
        dataset = hold_out(dataset, recipe.decay.held_out, recipe.seed)
    dataset = standardise(dataset)
    features = dataset.train.inputs.shape[1]
    model = build_model(
        features,
        recipe.model.hidden,
        dataset.classes,
        recipe.model.activation,
        recipe.seed,
        recipe.model.initialisation,
    )
    if recipe.algorithm == "hessian-free":
        build_hessian_free(recipe, model)  # refuses what it cannot work with
    return Job(name, recipe, dataset, model, folder)


def standardise(dataset: Dataset) -> Dataset:
    """Shift and scale all inputs by the training inputs' overall mean and deviation."""
    deviation, mean = torch.std_mean(dataset.train.inputs)
    scale = 1 / deviation.clamp(min=1e-6)

    def shifted(split: Split) -> Split:
        return Split((split.inputs - mean) * scale, split.targets)

    held_out = None if dataset.held_out is None else shifted(dataset.held_out)
    train, test = shifted(dataset.train), shifted(dataset.test)
    return replace(dataset, train=train, test=test, held_out=held_out)


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
