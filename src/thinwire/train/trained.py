"""The network that a finished run has trained, with the normalisation its inputs go through."""

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from thinwire.files import open_regular, path_of
from thinwire.models import Normalisation, build_model, from_factory, load_weights
from thinwire.train.folder import NORMALISATION
from thinwire.train.network import naming
from thinwire.train.recipe import Recipe
from thinwire.train.recipe_files import CONFIG, find_recipe
from thinwire.train.typed_fields import recipe_from


class TrainedNetwork(nn.Module):
    """A network from inputs as a data source gives them, in eval mode.

    Attributes:
        network: as it was trained.
        normalisation: of its inputs.
    """

    def __init__(self, network: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.network, self.normalisation = network, normalisation
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, ...] -> the network's outputs."""
        outputs: Tensor = self.network(self.normalisation(inputs))
        return outputs


def recipe_of_run(folder: Path) -> Recipe:
    """Read the recipe of a run from its folder.

    Raises:
        ValueError: it is no run folder, or its recipe is broken.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder}: expected a run folder with {CONFIG}, got none")
    _, fields = find_recipe(str(path), follow=False)
    with naming(str(path)):
        return recipe_from(fields)


def load_trained(folder: Path, recipe: Recipe, inputs: int, outputs: int) -> TrainedNetwork:
    """Load the network of a finished run.

    Args:
        folder: the run folder.
        recipe: of the run.
        inputs: values of a sample.
        outputs: classes, or numbers to be predicted.

    Raises:
        ValueError: the run has not finished, or its network has other inputs or outputs.
    """
    fields = recipe.model
    if fields.factory is not None:
        with naming("model.factory"):
            network, _ = from_factory(
                fields.factory, inputs=inputs, classes=outputs, seed=recipe.seed
            )
    else:
        network = build_model(inputs, fields.hidden, outputs, fields.activation, recipe.seed)
    network = load_weights(network, folder)
    file = folder / NORMALISATION
    try:
        with open_regular(file) as opened:
            stored = safetensors.torch.load_file(path_of(opened))
        found = Normalisation(stored["mean"], stored["scale"])
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from None
    for name, value in vars(found).items():
        if value.shape not in ((), (inputs,)) or value.dtype != torch.float32:
            raise ValueError(
                f"{file}: {name}: expected float32 of {inputs} values or one, got {value.dtype} "
                f"of shape {list(value.shape)}"
            )
    return TrainedNetwork(network, found)
