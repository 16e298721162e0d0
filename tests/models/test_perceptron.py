import copy

import pytest
import torch
from torch import nn

from thinwire.models import build_model, grow


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_signals_keep_their_size_through_a_deep_network(activation: str) -> None:
    """What He and Glorot initialisation are for."""
    model = build_model(300, [300] * 6, 10, activation, seed=0)  # type: ignore[arg-type]
    inputs = torch.randn(500, 300, generator=torch.Generator().manual_seed(0))
    deviations = []
    for layer in model:
        inputs = layer(inputs)
        if isinstance(layer, nn.Linear):
            deviations.append(inputs.std().item())
    assert all(0.5 < deviation < 6 for deviation in deviations)


def test_initialisation_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = build_model(4, [3], 2, "relu", seed=5)[0].weight
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(build_model(4, [3], 2, "relu", seed=5)[0].weight, one)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(build_model(4, [3], 2, "relu", seed=6)[0].weight, one)


def test_growing_keeps_the_hidden_layers_and_nothing_else() -> None:
    trained = build_model(6, [5, 4], 3, "sigmoid", seed=0)
    for p in trained.parameters():
        nn.init.normal_(p)
    fresh = build_model(6, [5, 4, 7], 3, "sigmoid", seed=1)
    deeper = copy.deepcopy(fresh)
    grow(trained, deeper)
    for name, value in deeper.state_dict().items():
        source = trained if name.startswith(("0.", "2.")) else fresh
        assert torch.equal(value, source.state_dict()[name]), name
    inputs = torch.randn(9, 6)
    assert torch.equal(deeper[:4](inputs), trained[:4](inputs)), "the same hidden signals"
    assert deeper[0].weight is not trained[0].weight


@pytest.mark.parametrize("hidden", [[5, 4], [5], [5, 3, 7]], ids=str)
def test_growing_into_what_does_not_fit_is_refused(hidden: list[int]) -> None:
    trained = build_model(6, [5, 4], 3, "sigmoid", seed=0)
    with pytest.raises(ValueError, match="fresh: expected"):
        grow(trained, build_model(6, hidden, 3, "sigmoid", seed=1))
