"""What an optimiser couples: found by trying it on small tensors before it is trusted.

An owner has a part of the model. An optimiser that treats every value alone can work on any run of
values, one that looks at whole tensors needs whole parameters, and one that looks at all parameters
at once cannot run at an owner. Nothing in an optimiser says which it is, and one that is taken for
another would train to the end with wrong updates.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

Ownership = Literal["runs of values", "whole parameters"]
Optimizer = torch.optim.Optimizer
Gradients = Sequence[Sequence[Tensor]]  # by step, by tensor
_MATRICES, _VECTOR = ((3, 4), (4, 3)), (5,)
_WIDE = ((130, 70), (8, 140))  # some optimisers treat only large tensors as wholes
_RATE = 1e-3  # in place of a learning rate of 0, at which nothing can be seen
_REFUSED = (TypeError, ValueError, RuntimeError, IndexError)
_FOUND: dict[tuple[type[Optimizer], str], Ownership] = {}  # trials take a tenth of a second


@dataclass(frozen=True)
class _Trial:
    """Tensors and their gradients.

    Attributes:
        shapes: of the tensors.
        steps: how many; some optimisers begin to couple only after a while.
        scale: of the gradients; some couple only those whose norm exceeds a threshold.
    """

    shapes: Sequence[tuple[int, ...]]
    steps: int
    scale: float

    def tensors(self) -> list[Tensor]:
        """Return where the optimiser begins."""
        return _normal(self.shapes, seed=0)

    def gradients(self) -> list[list[Tensor]]:
        """Return the gradients of every step."""
        found = [_normal(self.shapes, seed=1 + step) for step in range(self.steps)]
        return [[self.scale * gradient for gradient in step] for step in found]


def ownership(optimizer_class: type[Optimizer], options: Mapping[str, Any]) -> Ownership:
    """Return what a worker must own for an optimiser to run there.

    It looks for three things, with small and large gradients, over several steps:

    - what a tensor becomes must be the same with other tensors beside it and without;
    - it must be the same where the optimiser is made anew before each step and given what it kept
      in ``state[parameter]``, as an owner does;
    - where it is also the same for a tensor that is cut in two, every value stands alone.

    Returns:
        "runs of values": every value is treated alone. "whole parameters": the values of one
        tensor are coupled, those of different tensors are not.

    Raises:
        TypeError: an option that the optimiser does not have.
        ValueError: it couples all parameters, keeps what it needs elsewhere than in
            ``state[parameter]``, or cannot be run on a few values.
    """
    if not options.get("lr", _RATE):
        options = {**options, "lr": _RATE}
    asked = optimizer_class, repr(sorted(options.items()))
    if asked not in _FOUND:
        _FOUND[asked] = _tried(optimizer_class, options)
    return _FOUND[asked]


def _tried(optimizer_class: type[Optimizer], options: Mapping[str, Any]) -> Ownership:
    name = optimizer_class.__name__
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        trials = _trials(optimizer_class, options)
        moves = [_run(optimizer_class, options, t.tensors(), t.gradients()) for t in trials]
        for trial, moved in zip(trials, moves, strict=True):
            if not _same(moved, _each_alone(optimizer_class, options, trial)):
                raise ValueError(
                    f"{name} couples all parameters: what one becomes depends on the others, as "
                    "with a global norm or a learning rate that is estimated from all of them, and "
                    "no owner has all of them. Switch that off (clip_norm= clips by the global "
                    "norm), or use the hook (thinwire.onebit_hook) with it"
                )
        first, tensors, gradients = moves[0], trials[0].tensors(), trials[0].gradients()
        if not _same(first, _run(optimizer_class, options, tensors, gradients, anew=True)):
            raise ValueError(
                f"{name} keeps what it learns outside state[parameter], such as in its param "
                "groups, where an owner cannot keep it; use the hook (thinwire.onebit_hook) with it"
            )
        alone = all(
            _stands_cutting(optimizer_class, options, trial, moved)
            for trial, moved in zip(trials, moves, strict=True)
        )
        first_state(optimizer_class, options, trials[0].tensors()[0])  # refuses what none can keep
        return "runs of values" if alone else "whole parameters"


def defaults_of(
    optimizer_class: type[Optimizer], options: Mapping[str, Any], like: Tensor | None = None
) -> dict[str, Any]:
    """Return all options of an optimiser that is made with some.

    Args:
        optimizer_class: of the optimiser.
        options: those that are given.
        like: a tensor that it is made for; by default a small matrix.

    Raises:
        TypeError: an option that the optimiser does not have.
        ValueError: an option that is out of range, or a tensor that it does not take.
    """
    matrix = torch.zeros(_MATRICES[0], dtype=torch.float32, device="cpu")
    parameter = Parameter(matrix if like is None else like)
    # What is no default of a param group, such as what a class keeps in an attribute, counts too.
    return {**options, **_made(optimizer_class, options, [parameter]).defaults}


def first_state(
    optimizer_class: type[Optimizer], options: Mapping[str, Any], like: Tensor
) -> dict[str, Any]:
    """Return what an optimiser keeps of one parameter after its first step.

    Args:
        optimizer_class: of the optimiser.
        options: its options.
        like: a tensor of the parameter's shape and dtype, on its device.

    Raises:
        TypeError: an option that the optimiser does not have.
        ValueError: it cannot be run on such a tensor, or keeps other things than tensors and
            numbers.
    """
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(like.shape, generator=generator, dtype=torch.float32, device="cpu")
    parameter = Parameter(values.to(like))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        inner = _made(optimizer_class, options, [parameter])
        parameter.grad = parameter.detach().clone()
        _step(inner)
    state = dict(inner.state.get(parameter, {}))
    for name, value in state.items():
        if not isinstance(value, (Tensor, int, float, type(None))):
            raise ValueError(
                f"{optimizer_class.__name__} cannot run at the owner: expected tensors and numbers "
                f"in its state, got {name!r} of type {type(value).__name__}"
            )
    return state


def _trials(optimizer_class: type[Optimizer], options: Mapping[str, Any]) -> list[_Trial]:
    """Ordinary, small and large gradients of small tensors, and ordinary ones of larger tensors."""
    beside: tuple[tuple[int, ...], ...] = (_VECTOR,)
    try:
        _run(optimizer_class, options, _normal(beside, seed=0), [_normal(beside, seed=1)])
    except _REFUSED:
        beside = ()
    small = (*_MATRICES, *beside)
    long, weak, strong = _Trial(small, 12, 1.0), _Trial(small, 4, 1e-4), _Trial(small, 4, 1e4)
    return [long, weak, strong, _Trial((*_WIDE, *beside), 2, 1.0)]


def _each_alone(
    optimizer_class: type[Optimizer], options: Mapping[str, Any], trial: _Trial
) -> list[list[Tensor]]:
    """What each tensor becomes under an optimiser of its own."""
    alone = [
        _run(optimizer_class, options, [tensor], [[step[i]] for step in trial.gradients()])
        for i, tensor in enumerate(trial.tensors())
    ]
    return [[own[step][0] for own in alone] for step in range(trial.steps + 1)]


def _stands_cutting(
    optimizer_class: type[Optimizer],
    options: Mapping[str, Any],
    trial: _Trial,
    moved: Gradients,
) -> bool:
    """Whether a trial's tensors become the same where they are flattened and cut in two."""
    gradients = [_cut(step) for step in trial.gradients()]
    try:
        cut = _run(optimizer_class, options, _cut(trial.tensors()), gradients)
    except _REFUSED:
        return False  # it does not take vectors
    return _same([_cut(step) for step in moved], cut)


def _run(
    optimizer_class: type[Optimizer],
    options: Mapping[str, Any],
    tensors: Sequence[Tensor],
    gradients: Gradients,
    *,
    anew: bool = False,
) -> list[list[Tensor]]:
    """Return what tensors are before the first step and after each.

    Args:
        optimizer_class: of the optimiser.
        options: its options.
        tensors: where it begins.
        gradients: of every step.
        anew: make the optimiser anew before each step, with the ``state`` it had.
    """
    parameters = [Parameter(tensor.clone()) for tensor in tensors]
    inner = _made(optimizer_class, options, parameters)
    found = [[p.detach().clone() for p in parameters]]
    for number, step in enumerate(gradients):
        if anew and number:
            state, inner = inner.state, _made(optimizer_class, options, parameters)
            inner.state.update((p, dict(kept)) for p, kept in state.items())
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        _step(inner)
        found.append([p.detach().clone() for p in parameters])
    return found


def _made(
    optimizer_class: type[Optimizer], options: Mapping[str, Any], parameters: Sequence[Parameter]
) -> Optimizer:
    try:
        return optimizer_class(list(parameters), **options)
    except (TypeError, ValueError) as error:
        raise _refusal(optimizer_class, error) from error


def _step(inner: Optimizer) -> None:
    try:
        inner.step()
    except _REFUSED as error:
        raise _refusal(type(inner), error) from error


def _refusal(optimizer_class: type[Optimizer], error: Exception) -> Exception:
    kind = type(error) if isinstance(error, (TypeError, ValueError)) else ValueError
    return kind(f"{optimizer_class.__name__} cannot run at the owner: {error}")


def _same(one: Gradients, other: Gradients) -> bool:
    """Whether tensors move alike in every step, to far less than they move."""
    for (before, after), (b, a) in zip(
        itertools.pairwise(one), itertools.pairwise(other), strict=True
    ):
        for i, start in enumerate(before):
            moved, also = after[i] - start, a[i] - b[i]
            rounding = 1e-15 * float(after[i].abs().max())
            bound = 1e-6 * float(moved.abs().max()) + rounding
            if not torch.allclose(moved, also, rtol=0, atol=bound, equal_nan=True):
                return False
    return True


def _cut(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors flattened and cut, not in the middle."""
    return [part for t in tensors for part in t.reshape(-1).tensor_split([2 * t.numel() // 5])]


def _normal(shapes: Sequence[tuple[int, ...]], seed: int) -> list[Tensor]:
    """Values in float64, so that small updates can be told apart."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
        for shape in shapes
    ]
