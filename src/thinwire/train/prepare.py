"""From a recipe to everything a run needs, before anything is trained.

All of the user's mistakes surface here: unreadable data, an unwritable run folder, rates out of
range.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from thinwire.curvature.probe import PROBED
from thinwire.data import Dataset, Split, hold_out, load_mnist
from thinwire.models import Loss, Normalisation, NormalisedBy, fit_normalisation
from thinwire.optim import Objective
from thinwire.train.build import build_hessian_free
from thinwire.train.checkpoint import FOLDER, MODEL
from thinwire.train.codes import import_codes, pair
from thinwire.train.network import build_network
from thinwire.train.recipe import Recipe
from thinwire.train.split import check_split


@dataclass(frozen=True)
class Job:
    """A run that is ready to start.

    Attributes:
        name: the recipe's.
        recipe: the fields.
        dataset: its inputs normalised.
        normalisation: how they were.
        model: as training begins, or as its last stage does; the same on every worker.
        loss: (outputs, targets) -> mean over the samples.
        folder: the run folder; it exists and can be written.
    """

    name: str
    recipe: Recipe
    dataset: Dataset
    normalisation: Normalisation
    model: nn.Module
    loss: Loss
    folder: Path


def prepare(name: str, recipe: Recipe, progress: Callable[[str], None]) -> Job:
    """Find the data, build the model, make the run folder.

    Args:
        name: the recipe's name.
        recipe: the fields.
        progress: told of downloads, a line each.

    Raises:
        ValueError: a code of the user's that is not there, malformed data, a model that cannot be
            made or not be split over ``model_parallel`` workers, or an optimiser's argument out of
            range.
        OSError: data that cannot be read, a folder that cannot be written.
        RuntimeError: MNIST is neither here nor to be had.
    """
    import_codes((*pair(recipe.exchange.code), *recipe.hessian_free.codes))
    folder = writable_folder(recipe.out or Path("runs") / name)
    data = load_mnist(recipe.data, progress=progress)
    if recipe.decay.held_out:
        data = hold_out(data, recipe.decay.held_out, recipe.seed)
    dataset, normalisation = normalise(data, recipe.model.normalisation)
    _check_start(recipe.model.start, folder.resolve())
    model, loss = build_network(recipe, dataset)
    check_split(model, recipe.model_parallel)
    if recipe.algorithm == "hessian-free":
        model.eval()  # the objective is one function: no dropout
        build_hessian_free(recipe, model)  # these refuse what they cannot work with
        Objective(model, loss, (dataset.train.inputs[:PROBED], dataset.train.targets[:PROBED]))
    return Job(name, recipe, dataset, normalisation, model, loss, folder)


def normalise(dataset: Dataset, by: NormalisedBy) -> tuple[Dataset, Normalisation]:
    """Shift and scale all inputs by statistics of the training inputs, and say which."""
    found = fit_normalisation(dataset.train.inputs, by)

    def normalised(split: Split) -> Split:
        return Split(found(split.inputs), split.targets)

    train, test = normalised(dataset.train), normalised(dataset.test)
    held_out = None if dataset.held_out is None else normalised(dataset.held_out)
    return replace(dataset, train=train, test=test, held_out=held_out), found


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
