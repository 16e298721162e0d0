"""The network and the loss a recipe describes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from thinwire.data import DataSource
from thinwire.models import (
    Loss,
    build_model,
    check_network,
    factorize,
    from_factory,
    load_weights,
)
from thinwire.train.recipe import Recipe
from thinwire.train.tasks import Task

_TRIED = 8  # samples on which a user's network is tried


def build_network(recipe: Recipe, train: DataSource, task: Task) -> tuple[nn.Module, Loss]:
    """Make the network, load the weights it starts from, make its layers low-rank.

    Args:
        recipe: the fields.
        train: the samples, as a model takes them.
        task: says how many outputs there are, and the loss unless the recipe's factory does.

    Raises:
        ValueError: naming the field of the recipe.
    """
    fields = recipe.model
    model, loss = _fresh(recipe, train, task)
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


def perceptron(recipe: Recipe, train: DataSource, task: Task, depth: int) -> nn.Sequential:
    """The recipe's perceptron, or its first ``depth`` hidden layers with an output layer."""
    fields = recipe.model
    return build_model(
        train.shape[0],
        fields.hidden[:depth],
        task.outputs,
        fields.activation,
        recipe.seed,
        fields.initialisation,
    )


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Errors about a field's value, and of a network that does not fit, begin with its name."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise ValueError(f"{field}: {error}") from error


def _fresh(recipe: Recipe, train: DataSource, task: Task) -> tuple[nn.Module, Loss]:
    factory = recipe.model.factory
    if factory is None:
        return perceptron(recipe, train, task, len(recipe.model.hidden)), task.loss
    with naming("model.factory"):
        inputs = train.shape[0] if len(train.shape) == 1 else train.shape
        model, loss = from_factory(factory, inputs=inputs, classes=task.outputs, seed=recipe.seed)
        some = train.batch(torch.arange(min(_TRIED, len(train))))
        check_network(model, loss, *some, one_tensor=recipe.algorithm == "hessian-free")
    return model, loss


def _values(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
