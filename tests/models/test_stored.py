from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from thinwire.models import build_model, factorize, load_weights


@pytest.fixture
def trained() -> nn.Sequential:
    return build_model(40, [30, 30], 10, "relu", seed=1)


def write(folder: Path, model: nn.Module) -> Path:
    path = folder / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    return path


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_file_and_its_folder_give_the_weights(trained: nn.Sequential, tmp_path: Path) -> None:
    path = write(tmp_path, trained)
    for where in (path, tmp_path):
        model = build_model(40, [30, 30], 10, "relu", seed=0)
        assert load_weights(model, where) is model
        assert same(model, trained)


def test_low_rank_layers_of_the_file_are_made(trained: nn.Sequential, tmp_path: Path) -> None:
    small = factorize(trained, {"0": 7, "2": 5})
    write(tmp_path, small)
    model = load_weights(build_model(40, [30, 30], 10, "relu", seed=0), tmp_path)
    assert same(model, small)
    inputs = torch.randn(5, 40)
    assert torch.equal(model(inputs), small(inputs))


def test_a_single_layer_can_be_a_pair(tmp_path: Path) -> None:
    small = factorize(nn.Linear(20, 20), 3, output=True)
    write(tmp_path, small)
    assert same(load_weights(nn.Linear(20, 20), tmp_path), small)


@pytest.mark.parametrize(
    ("hidden", "said"),
    [
        ([29, 30], r"0\.bias: got shape \[30\], expected shape \[29\]"),
        ([30], r"2\.bias: got shape \[30\], expected shape \[10\]"),
        ([30, 30, 30], r"4\.bias: got shape \[10\], expected shape \[30\]"),
    ],
    ids=str,
)
def test_weights_that_do_not_fit_are_refused(
    hidden: list[int], said: str, trained: nn.Sequential, tmp_path: Path
) -> None:
    write(tmp_path, trained)
    model = build_model(40, hidden, 10, "relu", seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=said):
        load_weights(model, tmp_path)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"model\.safetensors: cannot be read"):
        load_weights(model, tmp_path)
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match=r"pickle\.pt: cannot be read"):
        load_weights(model, tmp_path / "pickle.pt")
