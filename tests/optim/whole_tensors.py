"""Small optimisers that look at whole tensors, or at all of them, as textbooks have them."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tests.optim.oracle import perceptron
from thinwire import OwnerOptimizer


class Textbook(torch.optim.Optimizer):
    """One update for each parameter that has a gradient."""

    def __init__(self, params: Any, **defaults: Any) -> None:
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            self.begin(group, [p for p in group["params"] if p.grad is not None])
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, p.grad, self.state[p], group)

    def begin(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """What is done once a step."""

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        raise NotImplementedError


class Lamb(Textbook):
    """[You 2020], algorithm 2; its step is a Python number."""

    def __init__(self, params: Any, lr: float = 0.02, beta1: float = 0.9, beta2: float = 0.99):
        super().__init__(params, lr=lr, beta1=beta1, beta2=beta2)

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state |= {"step": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
        state["step"] += 1
        state["m"].lerp_(g, 1 - group["beta1"])
        state["v"].lerp_(g * g, 1 - group["beta2"])
        m = state["m"] / (1 - group["beta1"] ** state["step"])
        v = state["v"] / (1 - group["beta2"] ** state["step"])
        r = m / (v.sqrt() + 1e-3) + 0.01 * p
        p.sub_(group["lr"] * p.norm() / r.norm() * r)


class Lars(Textbook):
    """Momentum with one rate for each tensor, lr |p| / |g| [You 2017]."""

    def __init__(self, params: Any, lr: float = 0.02, momentum: float = 0.9):
        super().__init__(params, lr=lr, momentum=momentum)

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        rate = group["lr"] * p.norm() / (g.norm() + 1e-6)
        v = state.setdefault("velocity", torch.zeros_like(p))
        p.sub_(v.mul_(group["momentum"]).add_(rate * g))


class Shampoo(Textbook):
    """[Gupta 2018], algorithm 1, with AdaGrad for what is no matrix; its preconditioners' powers
    are made every other step."""

    def __init__(self, params: Any, lr: float = 0.05, eps: float = 0.1):
        super().__init__(params, lr=lr, eps=eps)

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if p.ndim != 2:
            total = state.setdefault("sum", torch.full_like(p, group["eps"])).addcmul_(g, g)
            p.sub_(group["lr"] * g / total.sqrt())
            return
        for name, size in (("left", len(p)), ("right", p.shape[1])):
            state.setdefault(name, group["eps"] * torch.eye(size, dtype=p.dtype, device=p.device))
        state["step"] = state.get("step", torch.tensor(0)) + 1
        state["left"] += g @ g.T
        state["right"] += g.T @ g
        if state["step"] % 2 == 1:
            state["left_root"], state["right_root"] = root(state["left"]), root(state["right"])
        p.sub_(group["lr"] * state["left_root"] @ g @ state["right_root"])


def root(matrix: Tensor) -> Tensor:
    """matrix^(-1/4)."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=1e-6) ** -0.25 @ vectors.T


# --- what no owner can run ----------------------------------------------------------------------


class GlobalClip(Textbook):
    """SGD that clips the norm of all gradients together."""

    def __init__(self, params: Any, lr: float = 0.1, most: float = 50.0):
        super().__init__(params, lr=lr, most=most)

    def begin(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
        self.factor = min(1.0, group["most"] / float(norm)) if group["most"] else 1.0

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        p.sub_(group["lr"] * self.factor * g)


class EstimatedRate(Textbook):
    """A rate from all gradients so far, as in D-Adaptation; it shows from the sixth step on."""

    def __init__(self, params: Any, lr: float = 0.1):
        super().__init__(params, lr=lr)
        self.norms: list[float] = []

    def begin(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        self.norms.append(float(sum(p.grad.norm() for p in parameters if p.grad is not None)))

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        rate = group["lr"] if len(self.norms) < 6 else group["lr"] / max(self.norms)
        p.sub_(rate * g)


class CountsInGroup(Textbook):
    """Every value alone, but the number of steps is an entry of the param group."""

    def __init__(self, params: Any, lr: float = 0.1):
        super().__init__(params, lr=lr)

    def begin(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        group["k"] = group.get("k", 0) + 1

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        p.sub_(group["lr"] / group["k"] * g)


class KeepsLists(Textbook):
    """A normalised gradient, and a list of what was."""

    def __init__(self, params: Any, lr: float = 0.1):
        super().__init__(params, lr=lr)

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        state.setdefault("norms", []).append(g.norm())
        p.sub_(group["lr"] * g / state["norms"][0])


class OnlyLarge(Textbook):
    """Tensors of many values are treated as wholes, small ones value by value."""

    def __init__(self, params: Any, lr: float = 0.1):
        super().__init__(params, lr=lr)

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        p.sub_(group["lr"] * (g / g.norm() if p.numel() >= 4096 else g))


class InAttribute(Textbook):
    """SGD with an option that is no default of its param groups; it may look at whole tensors."""

    def __init__(self, params: Any, lr: float = 0.1, *, normalised: bool = False):
        super().__init__(params, lr=lr)
        self.normalised = normalised

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        p.sub_(group["lr"] * (g / g.norm() if self.normalised else g))


# --- the same training in plain torch and at the owners -------------------------------------------

Made = Iterable[torch.optim.Optimizer]
MUON = {"lr": 0.02, "weight_decay": 0.01}
ADAMW = {"lr": 0.01, "eps": 1e-3}


def matrices(model: nn.Module) -> tuple[list[Any], list[Any]]:
    """Names and parameters: the matrices, and the rest."""
    named = list(model.named_parameters())
    return [n for n in named if n[1].ndim == 2], [n for n in named if n[1].ndim != 2]


def muon_and_adamw(model: nn.Module, **options: Any) -> OwnerOptimizer:
    two, rest = matrices(model)
    groups = [{"params": two, "optimizer": torch.optim.Muon, **MUON}, {"params": rest}]
    return OwnerOptimizer(torch.optim.AdamW, groups, **ADAMW, **options)


def plain_muon_and_adamw(model: nn.Module) -> Made:
    two, rest = matrices(model)
    return [torch.optim.Muon(two, **MUON), torch.optim.AdamW(rest, **ADAMW)]


def owned(kind: Any, **own: Any) -> Callable[..., OwnerOptimizer]:
    return lambda model, **options: OwnerOptimizer(kind, model.named_parameters(), **own, **options)


# at the owners, and in plain torch
CASES: dict[str, tuple[Callable[..., OwnerOptimizer], Callable[[nn.Module], Made]]] = {
    "Muon and AdamW": (muon_and_adamw, plain_muon_and_adamw),
    "Adafactor": (
        owned(torch.optim.Adafactor, lr=0.05),
        lambda model: [torch.optim.Adafactor(model.parameters(), lr=0.05)],
    ),
    "LAMB": (owned(Lamb), lambda model: [Lamb(model.parameters())]),
    "LARS": (owned(Lars), lambda model: [Lars(model.parameters())]),
    "Shampoo": (owned(Shampoo), lambda model: [Shampoo(model.parameters())]),
}


def network(seed: int = 0) -> nn.Sequential:
    return perceptron(seed, 20, 30, 30, 4)


def loss_of(model: nn.Module, step: int, part: slice = slice(None)) -> Tensor:
    inputs = torch.randn(24, 20, generator=torch.Generator().manual_seed(step))
    return (model(inputs[part]) - inputs[part, :4]).square().mean()


def share(rank: int, world: int) -> slice:
    """Uneven parts of 24 samples."""
    bounds = [round(24 * (k / world) ** 0.6) for k in range(world + 1)]
    return slice(bounds[rank], bounds[rank + 1])


def take_step(model: nn.Module, optimizer: Any, step: int, rank: int, world: int) -> None:
    """One step on this worker's share; in a serial start worker 0 has all of it."""
    part = share(rank, world) if optimizer.phase != "serial" else slice(24 if rank == 0 else 0)
    optimizer.zero_grad()
    optimizer.samples = part.stop - (part.start or 0)
    if optimizer.samples:
        loss_of(model, step, part).backward()
    optimizer.step()


def train_plain(case: str, steps: int, change: Callable[[nn.Module], None] | None = None) -> Any:
    """The model of one worker in plain torch, and its optimisers."""
    model = network()
    if change is not None:
        change(model)
    made = list(CASES[case][1](model))
    for step in range(steps):
        model.zero_grad()
        loss_of(model, step).backward()
        for optimizer in made:
            optimizer.step()
    return model, made
