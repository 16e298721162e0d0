"""The empirical Fisher matrix against per-sample gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.curvature.cases import case
from thinwire import gradient
from thinwire.curvature import FlatModel, kronecker_layers
from thinwire.curvature.fisher import kronecker_factors, squared_gradients
from thinwire.solve import kronecker


def sample_gradients(module, loss, batch):
    pairs = zip(*batch, strict=True)
    return torch.stack([gradient(module, loss, (x[None], y[None]))[1] for x, y in pairs])


@pytest.mark.parametrize("model", ["linear", "sigmoid", "relu", "conv", "frozen", "tied"])
def test_squared_gradients_are_the_samples_own(model):
    module, loss, batch = case(model, "cross entropy")
    flat = FlatModel(module)
    expected = sample_gradients(module, loss, batch).square().sum(0)
    found = squared_gradients(flat, loss, flat.read(), *batch)
    torch.testing.assert_close(found, expected)


def test_kronecker_factors_of_one_sample_are_its_gradient_squared():
    """For one sample A (x) G is exactly g g'."""
    module, loss, (inputs, targets) = case("relu", "cross entropy", samples=1)
    flat = FlatModel(module)
    layers = kronecker_layers(flat)
    factors = kronecker_factors(flat, loss, flat.read(), inputs, targets)
    _, g = gradient(module, loss, (inputs, targets))
    apply = kronecker(factors, layers, damping=0.1)
    r = torch.randn_like(g)
    for layer in layers:  # (g g' + 0.1 I)^-1 r, block by block
        own, wanted = layer.matrix(g).reshape(-1), layer.matrix(r).reshape(-1)
        block = torch.outer(own, own) + 0.1 * torch.eye(len(own), dtype=torch.float64)
        found = layer.matrix(apply(r)).reshape(-1)
        torch.testing.assert_close(found, torch.linalg.solve(block, wanted))


def test_layers_are_found_where_they_are():
    module, _, _ = case("relu", "cross entropy")
    flat = FlatModel(module)
    theta = flat.read()
    first, second = kronecker_layers(flat)
    expected = torch.cat([module[0].weight, module[0].bias[:, None]], dim=1)
    assert torch.equal(first.matrix(theta), expected)
    assert torch.equal(second.matrix(theta), module[2].weight)
    again = torch.zeros_like(theta)
    for layer in (first, second):
        layer.put(layer.matrix(theta), again)
    assert torch.equal(again, theta)


@pytest.mark.parametrize("model", ["conv", "frozen", "tied"])
def test_models_of_other_parts_have_no_kronecker_layers(model):
    module, loss, batch = case(model, "cross entropy")
    flat = FlatModel(module)
    assert kronecker_layers(flat) is None
    with pytest.raises(ValueError, match="linear layers"):
        kronecker_factors(flat, loss, flat.read(), *batch)


def test_a_layer_called_twice_has_no_factors():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x):
            return self.layer(torch.tanh(self.layer(x)))

    flat = FlatModel(Twice().double())
    inputs = torch.randn(4, 6, dtype=torch.float64)
    targets = torch.randint(6, (4,))
    with pytest.raises(ValueError, match="called once"):
        kronecker_factors(flat, F.cross_entropy, flat.read(), inputs, targets)
    expected = sample_gradients(flat.model, F.cross_entropy, (inputs, targets)).square().sum(0)
    found = squared_gradients(flat, F.cross_entropy, flat.read(), inputs, targets)
    torch.testing.assert_close(found, expected)
