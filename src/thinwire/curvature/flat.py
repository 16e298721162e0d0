"""A model's trainable parameters as one flat vector theta, and the model as a function of it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from thinwire.exchange import check_gradient, check_parameters

CURVED = (torch.float32, torch.float64)  # what curvature is computed in


class FlatParameters:
    """Parameters laid end to end: theta, [P].

    Tensor-parallel parameters (DTensor) take part as a whole: theta holds all of their values on
    every worker.

    Args:
        parameters: in theta's order.

    Attributes:
        parameters: as given.
        sizes: number of values of each.
        names: what errors call them.

    Raises:
        TypeError: one is neither float32 nor float64, or not dense, naming it.
        ValueError: none given, or of mixed dtype or device.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = [*parameters]
        self.names = [
            f"parameter {i}, of shape {[*p.shape]}" for i, p in enumerate(self.parameters)
        ]
        if not self.parameters:
            raise ValueError("parameters: expected at least one that requires a gradient, got none")
        kinds = {f"{p.dtype} on {p.device}" for p in self.parameters}
        if len(kinds) > 1:
            raise ValueError(f"parameters: expected one dtype and device, got {sorted(kinds)}")
        check_parameters(zip(self.names, self.parameters, strict=True), dtypes=CURVED)
        self.sizes = [p.numel() for p in self.parameters]

    @torch.no_grad()
    def read(self) -> Tensor:
        """Theta, a copy, [P]."""
        return self.flatten(self.parameters)

    @torch.no_grad()
    def write(self, theta: Tensor) -> None:
        """Set the module's parameters to theta, [P]."""
        for parameter, piece in zip(self.parameters, self.pieces(theta), strict=True):
            if isinstance(parameter, DTensor):
                mesh, placements = parameter.device_mesh, parameter.placements
                parameter.copy_(distribute_tensor(piece, mesh, placements, src_data_rank=None))
            else:
                parameter.copy_(piece)

    def pieces(self, vector: Tensor) -> list[Tensor]:
        """Views into a flat vector, [P], one of each parameter's shape."""
        split = vector.split(self.sizes)
        return [piece.view(p.shape) for piece, p in zip(split, self.parameters, strict=True)]

    def flatten(self, tensors: Iterable[Tensor]) -> Tensor:
        """One tensor of each parameter's shape -> a new flat vector, [P]."""
        return torch.cat([whole(tensor).reshape(-1) for tensor in tensors])

    def flatten_gradients(self, gradients: Sequence[Tensor]) -> Tensor:
        """The same of what autograd returned.

        Raises:
            TypeError: a gradient is sparse, naming its parameter.
        """
        for name, gradient in zip(self.names, gradients, strict=True):
            check_gradient(name, gradient)
        return self.flatten(gradients)

    @torch.no_grad()
    def leaves(self, theta: Tensor) -> list[Tensor]:
        """Copies of theta's pieces that record gradients, one of each parameter's shape."""
        return [piece.clone().requires_grad_() for piece in self.pieces(theta)]


class FlatModel(FlatParameters):
    """A module seen as a function of theta.

    Nothing here writes to the module's parameters but ``write``: a graph that was recorded for one
    theta stays valid whatever else is evaluated. Shards of tensor-parallel parameters are cut from
    theta by operations that can be differentiated twice.

    Args:
        model: the module. Tied parameters count once.
        parameters: which of its parameters make up theta, in this order; by default all that
            require a gradient.

    Attributes:
        model: the module.
        names: the parameters' names in the module.

    Raises:
        TypeError: as ``FlatParameters``.
        ValueError: as there, or a parameter that is not the module's.
    """

    def __init__(self, model: nn.Module, parameters: Iterable[nn.Parameter] | None = None) -> None:
        known = {parameter: name for name, parameter in model.named_parameters()}
        super().__init__(
            [p for p in known if p.requires_grad] if parameters is None else parameters
        )
        strange = [[*p.shape] for p in self.parameters if p not in known]
        if strange:
            raise ValueError(f"parameters: one of shape {strange[0]} is not the model's")
        self.model = model
        self.names = [known[p] for p in self.parameters]

    def outputs(self, pieces: Iterable[Tensor], inputs: Any) -> Tensor:
        """The module's outputs with these parameters; gradients flow to them, twice if need be."""
        values = {
            name: _like(piece, parameter)
            for name, piece, parameter in zip(self.names, pieces, self.parameters, strict=True)
        }
        with twice_differentiable():
            outputs: Tensor = functional_call(self.model, values, (inputs,))
        return outputs


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be split over workers, all of it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _like(piece: Tensor, parameter: Tensor) -> Tensor:
    """A piece of theta placed as the parameter is."""
    if not isinstance(parameter, DTensor):
        return piece
    mesh = parameter.device_mesh
    everywhere = DTensor.from_local(piece, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(placements=parameter.placements)


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Attention by its plain definition: the fused kernels cannot be differentiated twice."""
    with sdpa_kernel(SDPBackend.MATH):
        yield
