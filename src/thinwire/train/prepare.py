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
from torch import Tensor, nn

from thinwire.data import (
    Dataset,
    DataSource,
    evenly_spaced,
    hold_out,
    inputs_in_memory,
    map_samples,
    open_dataset,
)
from thinwire.models import Loss, Normalisation, NormalisedBy, fit_normalisation
from thinwire.train.build import build_hessian_free
from thinwire.train.checkpoint import FOLDER, MODEL
from thinwire.train.codes import import_codes, pair
from thinwire.train.network import build_network
from thinwire.train.objective import probe
from thinwire.train.recipe import Recipe
from thinwire.train.split import check_split
from thinwire.train.tasks import Task, build_task

_FITTED = 65536  # samples of which statistics are taken, where they are not in memory
_FITTED_VALUES = 1 << 26  # the most values in them


@dataclass(frozen=True)
class Job:
    """A run that is ready to start.

    Attributes:
        name: the recipe's.
        recipe: the fields.
        dataset: its inputs normalised, its targets as the task takes them.
        task: metrics, and which of them decides.
        normalisation: how they were.
        model: as training begins, or as its last stage does; the same on every worker.
        loss: (outputs, targets) -> mean over the samples.
        folder: the run folder; it exists and can be written.
    """

    name: str
    recipe: Recipe
    dataset: Dataset
    task: Task
    normalisation: Normalisation
    model: nn.Module
    loss: Loss
    folder: Path


def prepare(name: str, recipe: Recipe, progress: Callable[[str], None]) -> Job:
    """Find the data, build the model, make the run folder.

    Args:
        name: the recipe's name.
        recipe: the fields.
        progress: told of downloads and of what is read into memory, a line each.

    Raises:
        ValueError: a code of the user's that is not there, malformed data, a model that cannot be
            made or not be split over ``model_parallel`` workers, or an optimiser's argument out of
            range.
        OSError: data that cannot be read, a folder that cannot be written.
        RuntimeError: MNIST is neither here nor to be had.
    """
    import_codes((*pair(recipe.exchange.code), *recipe.hessian_free.codes))
    folder = writable_folder(recipe.out or Path("runs") / name)
    dataset, task = _open(recipe, progress)
    dataset, normalisation = normalise(dataset, recipe.model.normalisation)
    _check_start(recipe.model.start, folder.resolve())
    model, loss = build_network(recipe, dataset.train, task)
    check_split(model, recipe.model_parallel)
    if recipe.algorithm == "hessian-free":
        model.eval()  # the objective is one function: no dropout
        build_hessian_free(recipe, model)  # these refuse what they cannot work with
        probe(model, loss, dataset.train)
    return Job(name, recipe, dataset, task, normalisation, model, loss, folder)


def normalise(dataset: Dataset, by: NormalisedBy) -> tuple[Dataset, Normalisation]:
    """Shift and scale all inputs by statistics of the training inputs, and say which.

    Statistics are of all training samples where they are in memory, and else of at most 65,536
    evenly spaced ones. Inputs that are no floating-point numbers stay as they are.
    """
    values = _inputs_to_fit(dataset.train)
    if not values.is_floating_point():
        return dataset, fit_normalisation(values, "none")
    found = fit_normalisation(values, by)
    return map_samples(dataset, found, _same), found


def _open(recipe: Recipe, progress: Callable[[str], None]) -> tuple[Dataset, Task]:
    """The data set in its parts, with targets as the task takes them and inputs as they are."""
    dataset = open_dataset(recipe.data, progress)
    task, dataset = build_task(recipe.task, dataset)
    if recipe.decay.held_out:
        dataset = hold_out(dataset, recipe.decay.held_out, recipe.seed)
    several_axes = len(dataset.train.shape) > 1
    flat = recipe.model.factory is None and several_axes  # a perceptron takes vectors
    return map_samples(dataset, _flatten if flat else _same, task.convert), task


def _inputs_to_fit(source: DataSource) -> Tensor:
    """Inputs [n, ...] from which statistics are taken."""
    values = inputs_in_memory(source)
    if values is not None:
        return values
    most = max(2, min(_FITTED, _FITTED_VALUES // torch.Size(source.shape).numel()))
    return source.batch(evenly_spaced(len(source), most))[0]


def _same(values: Tensor) -> Tensor:
    return values


def _flatten(inputs: Tensor) -> Tensor:
    """Inputs [m, ...] -> [m, features]."""
    return inputs.flatten(1)


def _check_start(start: str | None, folder: Path) -> None:
    """A run writes its own model and checkpoints anew, so it cannot start from them."""
    if start is None:
        return
    path = Path(start).resolve()
    if path in (folder, folder / MODEL) or folder / FOLDER in (path, *path.parents):
        raise ValueError(f"model.start: expected another run's, {start} is this run's")


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
