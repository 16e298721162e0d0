import copy

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from thinwire.models import build_model, factorize, rank_for_energy


def product(pair: nn.Module) -> Tensor:
    return pair[1].weight @ pair[0].weight  # type: ignore[index]


@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.booleans(), st.integers(0, 99)
)
def test_the_product_is_the_best_approximation_of_its_rank(
    inputs: int, outputs: int, rank: int, bias: bool, seed: int
) -> None:
    """Eckart and Young: the squared error is what the other singular values hold."""
    torch.manual_seed(seed)
    layer = nn.Linear(inputs, outputs, bias=bias).double()
    made = factorize(layer, rank, output=True, always=True)
    r = min(rank, inputs, outputs)
    assert [tuple(p.shape) for p in made[0].parameters()] == [(r, inputs)]  # type: ignore[index]
    left = torch.linalg.svd(layer.weight, full_matrices=False).S[r:].square().sum()
    error = (product(made) - layer.weight).square().sum()
    assert error.item() == pytest.approx(left.item(), abs=1e-12)
    if bias:
        assert torch.equal(made[1].bias, layer.bias)  # type: ignore[index]
    else:
        assert made[1].bias is None  # type: ignore[index]
    # Split evenly: both factors have the same Gram matrix, diag(s).
    one, two = made[0].weight, made[1].weight  # type: ignore[index]
    torch.testing.assert_close(one @ one.T, two.T @ two, atol=1e-10, rtol=0)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8), st.floats(0, 1, exclude_min=True))
def test_the_energy_rule_keeps_enough_and_no_more(values: list[float], energy: float) -> None:
    squares = torch.tensor(sorted(values, reverse=True), dtype=torch.float64).square()
    rank = rank_for_energy(squares.sqrt(), energy)
    wanted = energy * squares.sum()
    rounding = 1e-11 * squares.sum()
    assert 1 <= rank <= len(values)
    assert squares[:rank].sum() >= wanted - rounding
    if rank > 1:
        assert squares[: rank - 1].sum() < wanted


@given(st.floats(0.05, 0.95))
@hypothesis.settings(max_examples=20)
def test_energy_is_kept_by_every_layer(energy: float) -> None:
    model = build_model(20, [16, 12], 4, "relu", seed=0)
    made = factorize(model, energy=energy, always=True)
    for index in (0, 2):
        weight, kept = model[index].weight.double(), product(made[index]).double()  # type: ignore[index]
        assert kept.square().sum() / weight.square().sum() >= energy - 1e-5


def test_full_rank_is_the_same_function() -> None:
    model = build_model(20, [16, 12], 4, "sigmoid", seed=0)
    inputs = torch.randn(50, 20)
    made = factorize(model, 20, output=True, always=True)
    torch.testing.assert_close(made(inputs), model(inputs), atol=1e-5, rtol=1e-5)
    assert len(list(made.modules())) == len(list(model.modules())) + 6


def test_numerical_rank_is_what_all_of_the_energy_needs() -> None:
    layer = nn.Linear(30, 40)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(40, 3) @ torch.randn(3, 30))
    made = factorize(layer, energy=1.0, output=True)
    assert made[0].out_features == 3  # type: ignore[index]
    torch.testing.assert_close(product(made), layer.weight, atol=1e-4, rtol=0)


def test_hidden_layers_by_default_and_only_where_it_saves() -> None:
    model = build_model(40, [30, 5], 20, "relu", seed=0)
    kinds = [type(m) for m in factorize(model, 4)]  # type: ignore[call-overload]
    assert kinds == [nn.Sequential, nn.ReLU, nn.Sequential, nn.ReLU, nn.Linear]
    kinds = [type(m) for m in factorize(model, 5)]  # type: ignore[call-overload]
    assert kinds == [nn.Sequential, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear], "5 (30 + 5) > 30 5"
    kinds = [type(m) for m in factorize(model, 3, output=True)]  # type: ignore[call-overload]
    assert kinds[-1] is nn.Sequential
    named = factorize(model, {"4": 2})
    assert [type(m) for m in named] == [*map(type, model[:4]), nn.Sequential]  # type: ignore[call-overload]
    assert named[4][0].out_features == 2  # type: ignore[index]


def test_the_model_given_is_not_changed() -> None:
    model = build_model(40, [30, 30], 10, "relu", seed=0)
    before = copy.deepcopy(model.state_dict())
    made = factorize(model, 4)
    for p in made.parameters():
        nn.init.zeros_(p)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


class Odd(nn.Module):
    """A layer used under two names, a weight of two modules, a parametrised layer, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(16, 16)
        self.again = self.twice
        self.embedding = nn.Embedding(16, 16)
        self.tied = nn.Linear(16, 16, bias=False)
        self.tied.weight = self.embedding.weight
        self.normed = parametrizations.weight_norm(nn.Linear(16, 16))
        self.attention = nn.MultiheadAttention(16, 2)
        self.last = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.twice(x).tanh()) + self.normed(self.tied(x))
        return self.last(self.attention(x, x, x, need_weights=False)[0])


def test_layers_that_are_more_than_a_layer_stay() -> None:
    model, inputs = Odd(), torch.randn(5, 16)
    made = factorize(model, 4)
    assert isinstance(made, Odd)
    assert isinstance(made.twice, nn.Sequential)
    assert made.again is made.twice
    assert made.tied.weight is made.embedding.weight
    for name in ("normed", "attention", "last"):
        assert type(getattr(made, name)) is type(getattr(model, name)), name
    made(inputs).sum().backward()
    whole = factorize(model, 16, output=True, always=True)
    torch.testing.assert_close(whole(inputs), model(inputs), atol=1e-4, rtol=1e-4)


def test_kind_mode_and_frozen_weights_are_kept() -> None:
    layer = nn.Linear(16, 16, dtype=torch.float64).eval()
    layer.weight.requires_grad_(False)
    made = factorize(layer, 4, output=True)
    assert {p.dtype for p in made.parameters()} == {torch.float64}
    assert not made.training
    assert [name for name, p in made.named_parameters() if p.requires_grad] == ["1.bias"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "one of rank and energy"),
        ({"rank": 2, "energy": 0.5}, "one of rank and energy"),
        ({"rank": 0}, "rank: expected >= 1, got 0"),
        ({"rank": {"0": 0}}, "rank: expected >= 1, got 0"),
        ({"rank": {"7": 3}}, "rank: no linear layer '7'"),
        ({"energy": 0.0}, r"energy: expected in \(0, 1\], got 0.0"),
        ({"energy": 1.5}, r"energy: expected in \(0, 1\], got 1.5"),
    ],
    ids=str,
)
def test_mistakes_are_named(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        factorize(build_model(4, [4], 2, "relu", seed=0), **given)  # type: ignore[arg-type]
