"""Low-rank layers: W [out, in] of rank r as a product of [out, r] and [r, in] (S's SVD-LL setup).

    W = U diag(s) V'  ~  (U_r diag(s_r)^1/2) (diag(s_r)^1/2 V_r')

The truncated SVD is the best approximation of rank r (Eckart and Young 1936); a network
restructured by it is trained on (Xue, Li, Gong, Interspeech 2013; S's reference 13). One factor
could have all of diag(s). Each gets its root: the product is the same, but factors of one size get
gradients of one size, so that one learning rate fits both.
"""

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_ROUNDING = 1e-12  # share of the squares that float32 weights do not know


def factorize(
    model: nn.Module,
    rank: int | Mapping[str, int] | None = None,
    energy: float | None = None,
    *,
    output: bool = False,
    always: bool = False,
) -> nn.Module:
    """Replace linear layers by two, from a truncated singular value decomposition.

    ``Linear(in, out)`` becomes ``Sequential(Linear(in, r, bias=False), Linear(r, out))``; the
    second has the bias. Layers with weights in common with other modules, parametrised ones and
    subclasses of nn.Linear stay as they are.

    Args:
        model: any module; it is not changed.
        rank: r of every layer (less where a layer has no more), or of the layers of these names
            alone.
        energy: in (0, 1]: of each layer the least r that keeps this share of its squared singular
            values.
        output: replace the output layer too, which is the last linear layer in the order of
            registration. A mapping names its layers and needs no leave.
        always: replace layers even where two have no fewer parameters than one, that is where
            r (in + out) >= in out.

    Returns:
        A copy of the model, factors in the place, dtype and on the device of what they replace.

    Raises:
        ValueError: rank or energy out of range, both or neither given, or no linear layer of a
            name.
    """
    ranks = _wanted_ranks(model, rank, energy, output)
    model = copy.deepcopy(model)
    pairs: dict[nn.Module, nn.Sequential] = {}
    for name, r in ranks.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        r = min(r, layer.in_features, layer.out_features)
        saves = r * (layer.in_features + layer.out_features) < layer.weight.numel()
        if saves or always:
            pairs[layer] = _factors(layer, r)
    return replace_modules(model, pairs)


def rank_for_energy(singular_values: Tensor, energy: float) -> int:
    """The least r with s_1^2 + ... + s_r^2 >= energy (s_1^2 + s_2^2 + ...); at least 1.

    >>> rank_for_energy(torch.tensor([3.0, 2.0, 1.0]), 0.9)
    2
    """
    kept = singular_values.double().square().cumsum(0)
    enough = kept >= energy * kept[-1] * (1 - _ROUNDING)
    return int(enough.int().argmax()) + 1


def low_rank_pair(layer: nn.Linear, rank: int) -> nn.Sequential:
    """Two linear layers in the place of one, with weights still to be filled in."""
    kind = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    make: Any = nn.utils.skip_init
    pair = nn.Sequential(
        make(nn.Linear, layer.in_features, rank, bias=False, **kind),
        make(nn.Linear, rank, layer.out_features, bias=layer.bias is not None, **kind),
    )
    return pair.train(layer.training).requires_grad_(layer.weight.requires_grad)


def replace_modules(model: nn.Module, others: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put other modules in the place of some, wherever they stand; in place but for the root."""
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module in others and name:
            model.set_submodule(name, others[module])
    return others.get(model, model)


@torch.no_grad()
def _factors(layer: nn.Linear, rank: int) -> nn.Sequential:
    u, s, vt = torch.linalg.svd(layer.weight.double(), full_matrices=False)
    root = s[:rank].sqrt()
    pair = low_rank_pair(layer, rank)
    first, second = pair
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    first.weight.copy_(root[:, None] * vt[:rank])
    second.weight.copy_(u[:, :rank] * root)
    if layer.bias is not None:
        second.bias.copy_(layer.bias).requires_grad_(layer.bias.requires_grad)
    return pair


def _linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The layers that can be replaced, by name; each once, under its first name."""
    users = Counter(p for m in model.modules() for p in m.parameters(recurse=False))
    return {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear
        and isinstance(module.weight, nn.Parameter)
        and all(users[p] == 1 for p in module.parameters())
    }


def _wanted_ranks(
    model: nn.Module,
    rank: int | Mapping[str, int] | None,
    energy: float | None,
    output: bool,
) -> dict[str, int]:
    if (rank is None) == (energy is None):
        raise ValueError(f"expected one of rank and energy, got {rank} and {energy}")
    layers = _linear_layers(model)
    if isinstance(rank, Mapping):
        unknown = rank.keys() - layers.keys()
        if unknown:
            raise ValueError(f"rank: no linear layer {min(unknown)!r}, expected of {[*layers]}")
    low = [r for r in (rank.values() if isinstance(rank, Mapping) else [rank]) if r is not None]
    if any(r < 1 for r in low):
        raise ValueError(f"rank: expected >= 1, got {min(low)}")
    if energy is not None and not 0 < energy <= 1:
        raise ValueError(f"energy: expected in (0, 1], got {energy}")
    if isinstance(rank, Mapping):
        return dict(rank)
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]
    names = [name for name in layers if output or name not in last]
    if rank is not None:
        return dict.fromkeys(names, rank)
    assert energy is not None
    values = {name: torch.linalg.svdvals(layers[name].weight.detach().double()) for name in names}
    return {name: rank_for_energy(s, energy) for name, s in values.items()}
