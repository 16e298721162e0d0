"""Losses in which samples have weights: the same function as torch's of all samples, on any W.

The oracle is torch, on one process with all samples, in float64; for curvature the dense matrices.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thinwire import HessianFree, Objective, simulate
from thinwire.curvature import FlatModel, Workers
from thinwire.exchange import Ledger
from thinwire.optim.objective import SharedObjective, draw

HF = "HessianFree"
CLASS_WEIGHTS = torch.tensor([1.0, 5.0, 50.0], dtype=torch.float64)


def model() -> nn.Sequential:
    generator = torch.Generator().manual_seed(1)
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    for parameter in net.parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    return net


def data(padded: Callable[[Tensor], Any] = lambda targets: None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 5, dtype=torch.float64, generator=generator)
    targets = torch.randint(0, 3, (60,), generator=generator)
    padded(targets)
    return inputs, targets


def token_loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """As a language model's: the sum over what is no padding, and how much that is."""
    loss = F.cross_entropy(outputs, targets, reduction="sum", ignore_index=-1)
    return loss, (targets != -1).sum()


def half(targets: Tensor) -> None:
    targets[31:] = -1


def all_but_some(targets: Tensor) -> None:
    targets[19:] = -100


# what a user writes, what is padded, and torch's loss of all samples
LOSSES: dict[str, tuple[Any, Any, Any]] = {
    "ignore_index": (nn.CrossEntropyLoss(ignore_index=-1), half, None),
    "the function, and workers that have padding only": (F.cross_entropy, all_but_some, None),
    "class weights": (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS), lambda t: None, None),
    "class weights, smoothed": (
        partial(F.cross_entropy, weight=CLASS_WEIGHTS, label_smoothing=0.1),
        half,
        partial(F.cross_entropy, weight=CLASS_WEIGHTS, label_smoothing=0.1, ignore_index=-1),
    ),
    "(sum, weight)": (token_loss, half, partial(F.cross_entropy, ignore_index=-1)),
}
SUBJECTS = {
    "ignore_index": "padding (ignore_index) in the targets",
    "the function, and workers that have padding only": "padding (ignore_index) in the targets",
    "class weights": "class weights",
    "class weights, smoothed": "class weights",
    "(sum, weight)": "a loss that returns (sum, weight)",
}
WEIGHTED = [pytest.param(name, marks=pytest.mark.support(SUBJECTS[name], HF)) for name in LOSSES]


def given(name: str) -> tuple[Any, tuple[Tensor, Tensor], Callable[[nn.Module], Tensor]]:
    """The loss, the samples, and torch's loss of all of them."""
    loss, pad, oracle = LOSSES[name]
    if name == "class weights, smoothed":
        loss = oracle
    inputs, targets = data(pad)
    return loss, (inputs, targets), lambda net: (oracle or loss)(net(inputs), targets)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("name", WEIGHTED)
def test_value_and_gradient_are_torchs(name: str, everywhere: bool, world: int) -> None:
    loss, (inputs, targets), oracle = given(name)
    net = model()
    value = oracle(net)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(value, list(net.parameters()))])

    def work(rank: int, world: int) -> tuple[float, Tensor]:
        own = slice(None) if everywhere else slice(60 * rank // world, 60 * (rank + 1) // world)
        net = model()
        samples = inputs[own], targets[own]
        objective = Objective(net, loss, samples, everywhere=everywhere, chunk=7)
        flat = FlatModel(net)
        shared = SharedObjective(objective, flat, Workers(None, Ledger()))
        return shared.full().gradient(flat.read())

    parts = simulate(world, work)
    assert sum(f for f, _ in parts) == pytest.approx(value.item(), rel=1e-12)
    torch.testing.assert_close(sum(g for _, g in parts), gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("replicated", [True, False])
@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("name", WEIGHTED)
def test_curvature_of_a_batch_is_the_dense_matrix(
    name: str, everywhere: bool, replicated: bool
) -> None:
    loss, (inputs, targets), _ = given(name)
    numbers = draw(60, 40, 0, 0)
    net = model()
    flat = FlatModel(net)
    pad = -100 if (targets == -100).any() else -1

    def of_batch(theta: Tensor) -> Tensor:
        outputs = flat.outputs(flat.pieces(theta), inputs[numbers])
        found = loss(outputs, targets[numbers])
        return found[0] / found[1] if isinstance(found, tuple) else found

    assert name.startswith("class") or bool((targets[numbers] == pad).any())
    hessian = torch.autograd.functional.hessian(of_batch, flat.read())

    def work(rank: int, world: int) -> tuple[Tensor, Tensor]:
        own = slice(None) if everywhere else slice(60 * rank // world, 60 * (rank + 1) // world)
        net = model()
        samples = inputs[own], targets[own]
        objective = Objective(net, loss, samples, everywhere=everywhere, chunk=7)
        flat = FlatModel(net)
        workers = Workers(None, Ledger())
        shared = SharedObjective(objective, flat, workers)
        batch = shared.batch(numbers, replicated=replicated).result
        eye = torch.eye(len(flat.read()), dtype=torch.float64)
        theta = flat.read()
        products = batch.hessian(theta), batch.gauss_newton(theta)
        return tuple(torch.stack([product(v) for v in eye]) for product in products)

    results = simulate(3, work)
    parts = results[:1] if replicated else results
    torch.testing.assert_close(sum(h for h, _ in parts), hessian, rtol=1e-8, atol=1e-10)
    # At a model whose last layer is all that is trained the two matrices agree.
    last = slice(-21, None)
    gauss_newton = sum(g for _, g in parts)
    torch.testing.assert_close(gauss_newton[last, last], hessian[last, last], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("method", ["gauss-newton", "bicgstab"])
@pytest.mark.parametrize("name", WEIGHTED)
def test_steps_minimise_torchs_loss_whatever_the_number_of_workers(name: str, method: str) -> None:
    loss, samples, oracle = given(name)

    def work(rank: int, world: int) -> tuple[list[float], float]:
        net = model()
        # Bi-CG-STAB amplifies rounding by a thousand or more in each iteration from the third on
        optimizer = HessianFree(
            net.parameters(), method=method, curvature_batch=40, solver_iterations=3
        )
        objective = Objective(net, loss, samples)
        said = [float(optimizer.step(objective)) for _ in range(3)]
        return said, oracle(net).item()

    alone, at_the_end = simulate(1, work)[0]
    assert alone[-1] == pytest.approx(at_the_end, rel=1e-9)
    for said, there in simulate(3, work):
        assert said == pytest.approx(alone, rel=1e-6)
        assert there == pytest.approx(at_the_end, rel=1e-6)


@pytest.mark.support("a loss that returns (sum, weight)", HF)
def test_a_closure_may_return_a_sum_and_its_weight() -> None:
    inputs, targets = data(half)

    def work(rank: int, world: int) -> list[float]:
        net = model()
        own = slice(60 * rank // world, 60 * (rank + 1) // world)
        optimizer = HessianFree(net.parameters(), solver_iterations=5)

        def closure() -> Any:
            outputs = net(inputs[own])
            return token_loss(outputs, targets[own]), outputs

        return [float(optimizer.step(closure)) for _ in range(3)]

    (alone,) = simulate(1, work)
    for said in simulate(3, work):
        assert said == pytest.approx(alone, rel=1e-6)


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    'reduction="sum"': (nn.CrossEntropyLoss(reduction="sum"), ValueError, 'reduction="mean"'),
    'reduction="none"': (nn.CrossEntropyLoss(reduction="none"), ValueError, 'reduction="mean"'),
    "a sum in a function of one's own": (
        lambda o, t: F.cross_entropy(o, t, reduction="sum"),
        ValueError,
        "a mean over samples, each with the same weight",
    ),
    "class weights in a function of one's own": (
        lambda o, t: F.cross_entropy(o, t, weight=CLASS_WEIGHTS),
        ValueError,
        "a mean over samples, each with the same weight",
    ),
    "padding in a function of one's own": (
        lambda o, t: F.cross_entropy(o, t, ignore_index=-1),
        ValueError,
        "a mean over samples, each with the same weight",
    ),
    "a vector": (lambda o, t: (o[:, 0] - t) ** 2, TypeError, "one number, or .sum, weight."),
    "three things": (lambda o, t: (o.sum(), 1, 2), TypeError, "a tuple of 3"),
}


@pytest.mark.parametrize(
    ("loss", "error", "said"),
    [
        pytest.param(
            *row, id=name, marks=pytest.mark.support(f"a loss that is {name}", HF, refused=True)
        )
        for name, row in REFUSED.items()
    ],
)
def test_what_is_no_mean_over_samples_is_refused(
    loss: Any, error: type[Exception], said: str
) -> None:
    def pad_one(targets: Tensor) -> None:
        if "padding" in said or loss is REFUSED["padding in a function of one's own"][0]:
            targets[41] = -1

    with pytest.raises(error, match=said):
        Objective(model(), loss, data(pad_one))


def test_padding_that_shows_late_in_a_data_set_is_refused() -> None:
    inputs, targets = data(lambda targets: targets.__setitem__(41, -100))
    rows = torch.utils.data.TensorDataset(inputs, targets)
    objective = Objective(model(), F.cross_entropy, rows)
    with pytest.raises(ValueError, match="data: got a target of -100, which the loss ignores"):
        HessianFree(objective.model.parameters()).step(objective)


def test_weights_of_nothing_are_refused() -> None:
    inputs, targets = data(lambda targets: targets.fill_(-100))
    objective = Objective(model(), F.cross_entropy, (inputs, targets))
    with pytest.raises(ValueError, match="weights with a sum > 0"):
        HessianFree(objective.model.parameters()).step(objective)


class Recurrent(nn.Module):
    """Its gradients cannot be had sample by sample."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(5, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(self.rnn(inputs)[0][:, -1])


class Branching(nn.Module):
    """It looks at a value."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(5, 3), nn.LayerNorm(3)

    def forward(self, inputs: Tensor) -> Tensor:
        out = self.norm(self.layer(inputs).mean(1))
        return out if float(inputs.abs().max()) < 1e9 else -out


class Sequences(nn.Module):
    """Linear layers on inputs [n, steps, features]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs).mean(1)


@pytest.mark.support("default options on recurrent, branching and sequence models", HF)
@pytest.mark.parametrize(
    ("network", "first", "taken"),
    [
        (Recurrent, "diagonal", "none"),
        (Branching, "diagonal", "none"),
        (Sequences, "kronecker", "diagonal"),
    ],
)
def test_auto_takes_the_first_preconditioner_that_fits(
    network: type[nn.Module], first: str, taken: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(24, 4, 5, generator=generator)
    targets = torch.randint(0, 3, (24,), generator=generator)

    def work(rank: int, world: int) -> tuple[float, float, str]:
        torch.manual_seed(0)
        net = network()
        for parameter in net.parameters():
            parameter.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
        optimizer = HessianFree(net.parameters())
        objective = Objective(net, F.cross_entropy, (inputs, targets))
        losses = [float(optimizer.step(objective)) for _ in range(2)]
        return (*losses, optimizer.last_step.note if rank == 0 else "")

    def told(rank: int, world: int) -> str:
        net = network()
        optimizer = HessianFree(net.parameters())
        optimizer.step(Objective(net, F.cross_entropy, (inputs, targets)))
        return optimizer.last_step.note

    for before, after, _ in simulate(2, work):
        assert after < before
    expected = f"preconditioner: {first!r} does not fit this model; {taken!r} was taken"
    assert all(expected in note for note in simulate(2, told))
    if first == "diagonal":
        net = network()
        with pytest.raises(RuntimeError):
            HessianFree(net.parameters(), preconditioner="diagonal").step(
                Objective(net, F.cross_entropy, (inputs, targets))
            )
