"""The network and the loss a recipe describes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn
from torch.nn import functional as F

from thinwire.data import Dataset
from thinwire.models import (
    Loss,
    build_model,
    check_network,
    factorize,
    from_factory,
    load_weights,
)
from thinwire.train.recipe import Recipe

_TRIED = 8  # samples on which a user's network is tried


def build_network(recipe: Recipe, dataset: Dataset) -> tuple[nn.Module, Loss]:
    """Make the network, load the weights it starts from, make its layers low-rank.

    Raises:
        ValueError: naming the field of the recipe.
    """
    fields = recipe.model
    model, loss = _fresh(recipe, dataset)
    if fields.start is not None:
        with naming("model.start"):
            model = load_weights(model, Path(fields.start))
    if fields.rank is not None or fields.energy is not None:
        before = _values(model)
        model = factorize(model, fields.rank, fields.energy)
        if _values(model) == before:
            name = "rank" if fields.energy is None else "energy"
            raise ValueError(
                f"model.{name}: expected less: no hidden layer has fewer parameters as two, "
                f"got {fields.rank if fields.energy is None else fields.energy}"
            )
    return model, loss


def perceptron(recipe: Recipe, dataset: Dataset, depth: int) -> nn.Sequential:
    """The recipe's perceptron, or its first ``depth`` hidden layers with an output layer."""
    fields = recipe.model
    return build_model(
        dataset.train.inputs.shape[1],
        fields.hidden[:depth],
        dataset.classes,
        fields.activation,
        recipe.seed,
        fields.initialisation,
    )


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Errors about a field's value, and of a network that does not fit, begin with its name."""
    try:
        yield
    except (ValueError, RuntimeError, IndexError) as error:
        raise ValueError(f"{field}: {error}") from error


def _fresh(recipe: Recipe, dataset: Dataset) -> tuple[nn.Module, Loss]:
    factory, train = recipe.model.factory, dataset.train
    if factory is None:
        return perceptron(recipe, dataset, len(recipe.model.hidden)), F.cross_entropy
    with naming("model.factory"):
        features = train.inputs.shape[1]
        model, loss = from_factory(
            factory, inputs=features, classes=dataset.classes, seed=recipe.seed
        )
        check_network(
            model,
            loss,
            train.inputs[:_TRIED],
            train.targets[:_TRIED],
            one_tensor=recipe.algorithm == "hessian-free",
        )
    return model, loss


def _values(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
