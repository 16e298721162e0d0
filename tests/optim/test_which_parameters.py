"""Which parameters a step touches: torch's own optimisers are the oracle, with the float32 code.

What no worker has a gradient for is left alone: no decay, no momentum, no count of steps. What some
worker has a gradient for counts as zero on the others. What is thawed is trained from then on.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.optim.oracle import MANY_BUCKETS, batch, landing, perceptron, values
from thinwire import Ledger, OneBitSGD, OwnerOptimizer, simulate
from thinwire.quantize import code_names

FRONTS = ("OneBitSGD", "OwnerOptimizer")
SGD = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}
ADAMW = {"lr": 0.01, "weight_decay": 0.1}
DAMPED = {"lr": 0.01, "momentum": 0.9, "dampening": 0.5}
# thinwire's way, and torch's optimiser that it must equal
WAYS: dict[str, tuple[Callable[..., Any], type[torch.optim.Optimizer], dict[str, Any]]] = {
    "OneBitSGD": (lambda p: OneBitSGD(p, **SGD, **MANY_BUCKETS), torch.optim.SGD, SGD),
    "one bucket": (lambda p: OneBitSGD(p, **SGD, code="float32"), torch.optim.SGD, SGD),
    "double-buffered": (
        lambda p: landing(OneBitSGD(p, **SGD, **MANY_BUCKETS, double_buffer=True)),
        torch.optim.SGD,
        SGD,
    ),
    "serial start": (
        lambda p: OneBitSGD(p, **SGD, **MANY_BUCKETS, start="serial", start_steps=3),
        torch.optim.SGD,
        SGD,
    ),
    "AdamW": (
        lambda p: OwnerOptimizer(torch.optim.AdamW, p, **ADAMW, code="float32"),
        torch.optim.AdamW,
        ADAMW,
    ),
    "AdamW, serial start": (
        lambda p: OwnerOptimizer(
            torch.optim.AdamW, p, **ADAMW, **MANY_BUCKETS, start="serial", start_steps=3
        ),
        torch.optim.AdamW,
        ADAMW,
    ),
    "damped SGD": (
        lambda p: OwnerOptimizer(torch.optim.SGD, p, **DAMPED, **MANY_BUCKETS),
        torch.optim.SGD,
        DAMPED,
    ),
}


class Branches(nn.Module):
    """A trunk, two branches of which a step takes one or the other, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.left = perceptron(0, 20, 30), perceptron(1, 30, 30)
        self.right, self.head = perceptron(2, 30, 30), perceptron(3, 30, 4)

    def forward(self, inputs: Tensor, branch: str) -> Tensor:
        hidden = self.trunk(inputs)
        return self.head(self.left(hidden) if branch == "left" else self.right(hidden))


def branching(make: Callable[..., Any], rank: int, world: int) -> list[nn.Module]:
    """The left branch in the first and last steps, the right one in between."""
    model = Branches()
    optimizer = make(model.named_parameters())
    for step in range(8):
        optimizer.zero_grad()
        branch = "right" if 2 <= step < 6 else "left"
        model(batch(optimizer, step, rank, world), branch).square().mean().backward()
        optimizer.step()
    return [model]


def freezing(make: Callable[..., Any], rank: int, world: int) -> list[nn.Module]:
    """A layer is frozen from the start and thawed; another is frozen for a while."""
    model = perceptron(0, 20, 30, 30, 4)
    model[0].requires_grad_(False)
    optimizer = make(model.named_parameters())
    for step in range(9):
        if step == 3:
            model[0].requires_grad_(True)
        model[2].requires_grad_(not 4 <= step < 7)
        optimizer.zero_grad()
        model(batch(optimizer, step, rank, world)).square().mean().backward()
        optimizer.step()
    return [model]


def growing(make: Callable[..., Any], rank: int, world: int) -> list[nn.Module]:
    """A group of parameters is added in the middle of training."""
    model, more = perceptron(0, 20, 30, 4), perceptron(1, 20, 4)
    optimizer = make(model.named_parameters())
    for step in range(8):
        if step == 4:
            named = [(f"more.{name}", p) for name, p in more.named_parameters()]
            # torch takes names only where all groups have them
            named_before = "param_names" in optimizer.param_groups[0]
            optimizer.add_param_group(
                {"params": named if named_before else list(more.parameters())}
            )
        optimizer.zero_grad()
        inputs = batch(optimizer, step, rank, world)
        out = model(inputs) + more(inputs) if step >= 4 else model(inputs)
        out.square().mean().backward()
        optimizer.step()
    return [model, more]


LOOPS = {
    "parameters that no worker has used in a step": branching,
    "layers frozen and thawed while training": freezing,
    "add_param_group while training": growing,
}


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "loop",
    [pytest.param(loop, marks=pytest.mark.support(s, *FRONTS)) for s, loop in LOOPS.items()],
)
def test_what_torch_leaves_alone_is_left_alone(loop: Any, way: str, world: int) -> None:
    make, torch_class, options = WAYS[way]
    plain = lambda named: torch_class([p for _, p in named], **options)  # noqa: E731
    expected = values(loop(plain, 0, 1))
    for models in simulate(world, lambda rank, world: loop(make, rank, world)):
        torch.testing.assert_close(values(models), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.support("a parameter that only some workers have used in a step", *FRONTS)
@pytest.mark.parametrize("way", ["OneBitSGD", "one bucket", "double-buffered", "AdamW"])
def test_a_missing_gradient_is_zero_where_another_worker_has_one(way: str) -> None:
    make, torch_class, options = WAYS[way]

    def oracle() -> list[nn.Module]:
        model = Branches()
        optimizer = torch_class(model.parameters(), **options)
        for step in range(5):
            optimizer.zero_grad()
            for rank, branch in enumerate(("left", "right")):
                loss = model(batch(optimizer, step, rank, 2), branch).square().mean()
                (loss / 2).backward()
            optimizer.step()
        return [model]

    def work(rank: int, world: int) -> list[nn.Module]:
        model = Branches()
        optimizer = make(model.named_parameters())
        for step in range(5):
            optimizer.zero_grad()
            branch = "left" if rank == 0 else "right"
            model(batch(optimizer, step, rank, world), branch).square().mean().backward()
            optimizer.step()
        return [model]

    for models in simulate(2, work):
        torch.testing.assert_close(values(models), values(oracle()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("code", code_names())
def test_what_is_idle_keeps_every_bit_and_costs_a_bit_a_parameter(code: str) -> None:
    """Weights, momentum and both residuals of the branch that nobody takes."""

    def work(rank: int, world: int) -> tuple[bool, Ledger]:
        model = Branches()
        optimizer = OneBitSGD(model.named_parameters(), **SGD, code=code)
        idle = [i for i, (name, _) in enumerate(model.named_parameters()) if "right" in name]

        def carried() -> list[Tensor]:
            state = optimizer.state_dict()["state"]
            kept = [state[i][kind] for i in idle for kind in sorted(state[i]) if kind != "owned"]
            return [v.clone() for v in [*kept, *(p.detach() for p in model.right.parameters())]]

        def step(number: int, branch: str) -> None:
            optimizer.zero_grad()
            model(batch(optimizer, number, rank, world), branch).square().mean().backward()
            optimizer.step()

        for number in range(3):
            step(number, "right")
        before = carried()
        for number in range(3, 6):
            step(number, "left")
        return all(map(torch.equal, before, carried())), optimizer.ledger

    for same, ledger in simulate(3, work):
        assert same
        # eight parameters are a byte to each of two others; both branches stand idle at times
        assert ledger.total("idle").bytes == 6 * 2


@settings(max_examples=25, deadline=None)
@given(
    world=st.integers(1, 3),
    code=st.sampled_from(["sign", "2-bit", "rotated", "float32"]),
    uses=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=5),
)
def test_gradients_are_conserved_whoever_has_them(
    world: int, code: str, uses: list[list[bool]]
) -> None:
    """Computed = applied + carried by both stages; ``uses`` by step and worker."""

    def work(rank: int, world: int) -> tuple[Tensor, Tensor, Tensor]:
        one, two = (nn.Parameter(torch.zeros(5, 7)) for _ in range(2))
        optimizer = OneBitSGD([("one", one), ("two", two)], lr=1.0, code=code)
        generator = torch.Generator().manual_seed(rank)
        computed = torch.zeros(35, dtype=torch.float64)
        for step in uses:
            one.grad = torch.randn(5, 7, generator=generator)
            two.grad = torch.randn(5, 7, generator=generator) if step[rank] else None
            computed += two.grad.flatten().double() if step[rank] else 0.0
            optimizer.step()
        state = optimizer.state_dict()["state"][1]
        carried = state["residual"].flatten().double()
        start, stop = state.get("owned", (0, 0))
        if stop > start:
            carried[start:stop] += world * state["owner_residual"].double()
        return computed, carried, -world * two.detach().flatten().double()

    results = simulate(world, work)
    computed = torch.stack([c for c, _, _ in results]).sum(0)
    carried = torch.stack([c for _, c, _ in results]).sum(0)
    torch.testing.assert_close(computed, carried + results[0][2], rtol=1e-4, atol=1e-4)
