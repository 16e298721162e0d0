"""A perceptron split over the workers that share it, and put together again (S section 4).

Layers are taken in pairs. The first of a pair is split by its outputs: every worker computes some
of them from all inputs. The second is split by its inputs, which are the outputs that the worker
has; the sum over workers is all that is sent, in forward the second's output, in backward the
gradient of the first's input. A last layer without partner is split by its inputs too.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)

from thinwire.exchange import Wire
from thinwire.exchange.shards import local, shard_of
from thinwire.optim.shards import sharded_dim

_STAGE = "whole model"
_BETWEEN = (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Identity)  # value by value, so shards suffice


def check_split(model: nn.Module, ways: int) -> None:
    """Raise ValueError, naming layer and sizes, unless the model can be split.

    Args:
        model: not split yet.
        ways: workers that are to share it; 1 is always possible.
    """
    if ways == 1:
        return
    for number, (name, style) in enumerate(_styles(model).items(), 1):
        layer = model.get_submodule(name)
        by_outputs = isinstance(style, ColwiseParallel)
        size = layer.out_features if by_outputs else layer.in_features
        if int(size) % ways:  # type: ignore[arg-type]
            raise ValueError(
                f"model_parallel: layer {number}: {size} {'outputs' if by_outputs else 'inputs'} "
                f"do not divide by {ways}"
            )


def split_model(model: nn.Module, mesh: DeviceMesh | None) -> nn.Module:
    """Keep this worker's part of every layer, in place; all workers hold the same model before.

    Args:
        model: of ``build_model``.
        mesh: one-dimensional, the workers that share the model; None leaves it whole.
    """
    if mesh is None:
        return model
    check_split(model, mesh.size())
    # Nothing is sent: each worker cuts its own copy.
    return parallelize_module(model, mesh, _styles(model), src_data_rank=None)


@torch.no_grad()
def whole_state(model: nn.Module, wire: Wire) -> dict[str, Tensor]:
    """The ``state_dict()`` of the whole model, on every worker.

    What is not split is this worker's own.

    Args:
        model: split evenly, or not at all.
        wire: the workers that share it, which all call this together.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        own, dim = local(tensor), sharded_dim(tensor)
        if dim is not None:
            everyone = wire.all_gather(own.reshape(-1), _STAGE)
            own = torch.cat([shard.view(own.shape) for shard in everyone], dim)
        state[name] = own
    return state


@torch.no_grad()
def load_whole(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """The inverse, without communication: every worker takes its part.

    Raises:
        RuntimeError: names or shapes are not the model's.
    """
    own = dict(state)
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, DTensor) and name in own:
            mesh = tensor.device_mesh
            part = shard_of(own[name], sharded_dim(tensor), mesh.get_local_rank(), mesh.size())
            own[name] = DTensor.from_local(part, mesh, tensor.placements, run_check=False)
    model.load_state_dict(own)


def _styles(model: nn.Module) -> dict[str, ParallelStyle]:
    """How each linear layer is split, in the order in which they are computed.

    Raises:
        ValueError: the model is not a chain of linear layers and activations.
    """
    linear: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            linear.append(name)
        elif not isinstance(module, (nn.Sequential, *_BETWEEN)) and (linear or not name):
            raise ValueError(
                "model_parallel: expected a chain of linear layers with ReLU, sigmoid or tanh "
                f"between them, found {type(module).__name__} {name!r}"
            )
    if not linear:
        raise ValueError("model_parallel: expected a model with linear layers, found none")
    styles: dict[str, ParallelStyle] = {}
    for number, name in enumerate(linear):
        if number % 2:
            styles[name] = RowwiseParallel()
        elif number + 1 < len(linear):
            styles[name] = ColwiseParallel()
        else:
            styles[name] = RowwiseParallel(input_layouts=Replicate())
    return styles
