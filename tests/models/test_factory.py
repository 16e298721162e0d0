import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models import networks
from thinwire.models import check_network, from_factory

HERE = "tests.models.networks"


def make(function: str) -> tuple[nn.Module, object]:
    return from_factory(f"{HERE}:{function}", inputs=6, classes=3, seed=1)


def test_the_seed_decides_the_weights_and_the_global_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    model, loss = make("plain")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again, _ = make("plain")
    other, _ = from_factory(f"{HERE}:plain", inputs=6, classes=3, seed=2)
    assert torch.equal(model[0].weight, again[0].weight)  # type: ignore[index]
    assert not torch.equal(model[0].weight, other[0].weight)  # type: ignore[index]
    torch.manual_seed(1)
    assert torch.equal(model[0].weight, networks.plain(inputs=6, classes=3, seed=1)[0][0].weight)  # type: ignore[index]
    assert loss is nn.functional.cross_entropy


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tests.models.nothing:plain", "tests.models.nothing cannot be imported: No module named"),
        (f"{HERE}:nothing", "has no function 'nothing'"),
        (f"{HERE}:not_a_function", "has no function 'not_a_function'"),
        (f"{HERE}:of_other_arguments", "must take the keywords inputs, classes and seed"),
        (f"{HERE}:no_loss", r"must return \(module, loss\), got a Linear"),
        (f"{HERE}:loss_first", "must return an nn.Module first, got a function"),
        (f"{HERE}:loss_of_a_kind", r"must return a loss\(outputs, targets\) second, got a str"),
        (f"{HERE}:frozen", "without parameters to train"),
    ],
)
def test_what_is_wrong_with_a_function_is_said(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_factory(name, inputs=6, classes=3, seed=1)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("summing", "must be the mean over samples"),
        ("per_sample", r"one number, a tensor of shape \[\], got shape \[8\]"),
        ("detached", "does not depend on the module's parameters"),
        ("with_batch_norm", "changes the buffer '1.running_mean'"),
    ],
)
def test_what_is_wrong_with_a_network_is_said(function: str, said: str) -> None:
    model, loss = make(function)
    inputs, targets = torch.randn(8, 6), torch.randint(3, (8,))
    with pytest.raises(ValueError, match=said):
        check_network(model, loss, inputs, targets)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", ["plain", "with_dropout", "autoencoder"])
def test_a_good_network_is_left_as_it_is(function: str) -> None:
    model, loss = make(function)
    weights = [p.clone() for p in model.parameters()]
    before = torch.get_rng_state()
    check_network(model, loss, torch.randn(8, 6, generator=torch.Generator()), torch.arange(8) % 3)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(map(torch.equal, weights, model.parameters()))


def test_a_module_in_the_current_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here_2718.py").write_text(
        "from torch import nn\n"
        "def make(inputs, classes, seed):\n"
        "    return nn.Linear(inputs, classes), nn.functional.cross_entropy\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(Path.cwd()))])
    model, _ = from_factory("only_here_2718:make", inputs=4, classes=2, seed=0)
    assert isinstance(model, nn.Linear)
