"""Weights of an earlier run, from its safetensors file."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from thinwire.files import open_regular, path_of
from thinwire.models.lowrank import low_rank_pair, replace_modules
from thinwire.needed import needed

MODEL = "model.safetensors"


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Fill a model with stored weights.

    Where the file has a pair of low-rank layers (``factorize``) for a linear layer of the model,
    the model gets such a pair.

    Args:
        model: changed in place.
        path: a safetensors file, or a run folder or checkpoint with a model.safetensors.

    Returns:
        The model.

    Raises:
        MissingPackageError: safetensors is not installed.
        ValueError: the file is missing, is no safetensors file, or does not fit the model.
    """
    safetensors, read = needed("safetensors"), needed("safetensors.torch").load_file
    file = path / MODEL if path.is_dir() else path
    try:
        with open_regular(file, follow=True) as opened:
            tensors = read(path_of(opened))
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from None
    model = _with_pairs(model, tensors)
    own = model.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        stored, expected = (list(t[name].shape) if name in t else None for t in (tensors, own))
        if stored != expected:
            raise ValueError(f"{file}: {name}: got {_said(stored)}, expected {_said(expected)}")
    model.load_state_dict(tensors)
    return model


def _with_pairs(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    pairs: dict[nn.Module, nn.Module] = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        first, second = (tensors.get(f"{prefix}{i}.weight") for i in (0, 1))
        if (
            type(module) is nn.Linear
            and first is not None
            and second is not None
            and first.ndim == 2
        ):
            pairs[module] = low_rank_pair(module, first.shape[0])
    return replace_modules(model, pairs)


def _said(shape: list[int] | None) -> str:
    return "none" if shape is None else f"shape {shape}"
