"""Functions a recipe's ``model.factory`` can name, good and bad."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

not_a_function = 3


def plain(*, inputs: int, classes: int, seed: int) -> Any:
    model = nn.Sequential(nn.Linear(inputs, 12), nn.Sigmoid(), nn.Linear(12, classes))
    return model, F.cross_entropy


def with_dropout(*, inputs: int, classes: int, seed: int) -> Any:
    model = nn.Sequential(nn.Linear(inputs, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, classes))
    return model, nn.CrossEntropyLoss(label_smoothing=0.1)


def partly_frozen(*, inputs: int, classes: int, seed: int) -> Any:
    model, loss = plain(inputs=inputs, classes=classes, seed=seed)
    model[0].bias.requires_grad_(False)
    return model, loss


class Tied(nn.Module):
    """An autoencoder with one weight for both ways."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.there = nn.Linear(inputs, 5)
        self.back = nn.Linear(5, inputs)
        self.also = self.there

    def forward(self, inputs: torch.Tensor) -> Any:
        return inputs, self.back(self.also(inputs).tanh())


def autoencoder(*, inputs: int, classes: int, seed: int) -> Any:
    """Outputs are a pair, without classes: no errors."""
    return Tied(inputs), lambda outputs, _: F.mse_loss(outputs[1], outputs[0])


def summing(*, inputs: int, classes: int, seed: int) -> Any:
    return nn.Linear(inputs, classes), nn.CrossEntropyLoss(reduction="sum")


def per_sample(*, inputs: int, classes: int, seed: int) -> Any:
    return nn.Linear(inputs, classes), nn.CrossEntropyLoss(reduction="none")


def detached(*, inputs: int, classes: int, seed: int) -> Any:
    return nn.Linear(inputs, classes), lambda outputs, targets: outputs.detach().mean()


def with_batch_norm(*, inputs: int, classes: int, seed: int) -> Any:
    model = nn.Sequential(nn.Linear(inputs, 4), nn.BatchNorm1d(4), nn.Linear(4, classes))
    return model, F.cross_entropy


def too_wide(*, inputs: int, classes: int, seed: int) -> Any:
    return nn.Linear(inputs + 1, classes), F.cross_entropy


def no_loss(*, inputs: int, classes: int, seed: int) -> Any:
    return nn.Linear(inputs, classes)


def loss_first(*, inputs: int, classes: int, seed: int) -> Any:
    return F.cross_entropy, nn.Linear(inputs, classes)


def loss_of_a_kind(*, inputs: int, classes: int, seed: int) -> Any:
    return nn.Linear(inputs, classes), "cross entropy"


def frozen(*, inputs: int, classes: int, seed: int) -> Any:
    return nn.Linear(inputs, classes).requires_grad_(False), F.cross_entropy


def of_other_arguments(features: int) -> Any:
    return nn.Linear(features, 1), F.mse_loss


class Cast(nn.Module):
    """A network of another dtype than its inputs."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype = inner.to(dtype), dtype

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.inner(inputs.to(self.dtype))


def of_float64(*, inputs: int, classes: int, seed: int) -> Any:
    return Cast(nn.Linear(inputs, classes), torch.float64), F.cross_entropy


def of_bfloat16(*, inputs: int, classes: int, seed: int) -> Any:
    return Cast(nn.Linear(inputs, classes), torch.bfloat16), F.cross_entropy


def of_float16(*, inputs: int, classes: int, seed: int) -> Any:
    return Cast(nn.Linear(inputs, classes), torch.float16), F.cross_entropy


class Halves(nn.Module):
    """Looks whether inputs are positive up in a table."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Embedding(2, 3, sparse=True), nn.Flatten(), nn.Linear(3 * inputs, classes)
        )

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.inner((inputs > 0).long())


def sparse(*, inputs: int, classes: int, seed: int) -> Any:
    return Halves(inputs, classes), F.cross_entropy
