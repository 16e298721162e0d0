"""Parameters of other dtypes under HessianFree, and ambient defaults."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.optim.test_dtypes import ambient
from thinwire import HessianFree, Objective, simulate

NAME = "HessianFree"


def problem(dtype: torch.dtype) -> tuple[nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(96, 6, generator=generator, dtype=torch.float64).to(dtype)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    for p in model.parameters():
        p.data.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return model, inputs, torch.arange(96) % 3


def train(rank: int, workers: int, dtype: torch.dtype, **options: Any) -> tuple[Tensor, Any]:
    model, *data = problem(dtype)
    optimizer = HessianFree(model.named_parameters(), curvature_batch=48, **options)
    objective = Objective(model, F.cross_entropy, (data[0], data[1]))
    for _ in range(3):
        optimizer.step(objective)
    state = copy.deepcopy(optimizer.state_dict())
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]), state


@pytest.mark.support("parameters of float64", NAME)
def test_float64_is_float64_throughout() -> None:
    """The gradient carried to the next step is autograd's to the precision of float64."""
    theta, state = simulate(2, train, torch.float64)[0]
    model, inputs, targets = problem(torch.float64)
    nn.utils.vector_to_parameters(theta, model.parameters())
    F.cross_entropy(model(inputs), targets).backward()
    for i, p in enumerate(model.parameters()):
        for kind in ("gradient", "step"):
            assert state["state"][i][kind].dtype == torch.float64
        torch.testing.assert_close(state["state"][i]["gradient"], p.grad, rtol=0, atol=1e-14)


@pytest.mark.support("torch.set_default_dtype(bfloat16 or float64)", NAME)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"method": "gauss-newton", "curvature": "sharded", "product_code": "8-bit"},
        {"method": "bicgstab", "gradient_code": "rotated", "preconditioner": "diagonal"},
        {"method": "hybrid", "curvature": "sharded", "solver_vectors": "sharded"},
    ],
    ids=lambda options: options["method"],
)
def test_the_default_dtype_changes_no_bit(dtype: torch.dtype, options: dict[str, Any]) -> None:
    def work(rank: int, workers: int) -> Tensor:
        return train(rank, workers, torch.float32, **options)[0]

    expected = simulate(2, work)
    with ambient(dtype):
        got = simulate(2, work)
    assert all(map(torch.equal, got, expected))


@pytest.mark.support("torch.set_default_device", NAME)
@pytest.mark.parametrize("method", ["gauss-newton", "hybrid", "bicgstab"])
def test_the_default_device_takes_no_buffer(method: Any) -> None:
    def work(rank: int, workers: int, device: str) -> Tensor:
        model, *data = problem(torch.float32)
        with torch.device(device):
            optimizer = HessianFree(model.parameters(), method=method, curvature="sharded")
            objective = Objective(model, F.cross_entropy, (data[0], data[1]))
            for _ in range(2):
                optimizer.step(objective)
        return torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    assert all(map(torch.equal, simulate(2, work, "meta"), simulate(2, work, "cpu")))


@pytest.mark.support("parameters that are frozen, of any dtype", NAME)
def test_what_is_frozen_is_worker_0s_and_stays() -> None:
    def work(rank: int, workers: int) -> list[Tensor]:
        model, *data = problem(torch.float32)
        model.count = nn.Parameter(torch.arange(3) + rank, requires_grad=False)
        model.narrow = nn.Parameter(torch.full((2, 2), 1.5 + rank).bfloat16(), requires_grad=False)
        optimizer = HessianFree(model.parameters())
        optimizer.step(Objective(nn.Sequential(*model), F.cross_entropy, (data[0], data[1])))
        return [model.count.detach(), model.narrow.detach().float()]

    for count, half in simulate(2, work):
        assert count.tolist() == [0, 1, 2]
        assert (half == 1.5).all()


DTYPES = [torch.bfloat16, torch.float16, torch.complex64]


@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(
            dtype,
            id=str(dtype),
            marks=pytest.mark.support(
                f"parameters of {str(dtype).removeprefix('torch.')}",
                NAME,
                refused=True,
                note="float32 or float64",
            ),
        )
        for dtype in DTYPES
    ],
)
def test_other_dtypes_are_refused_by_name(dtype: torch.dtype) -> None:
    named = [("head.weight", nn.Parameter(torch.zeros(3, 4, dtype=dtype)))]
    short = str(dtype).removeprefix("torch.")
    with pytest.raises(TypeError, match=rf"head\.weight: expected .* float64, got {short}"):
        HessianFree(named)
    with pytest.raises(TypeError, match=rf"parameter 0: expected .* float64, got {short}"):
        HessianFree([p for _, p in named])


@pytest.mark.support("nn.Embedding(sparse=True)", NAME, refused=True, note="use sparse=False")
def test_sparse_gradients_are_refused_on_every_worker() -> None:
    messages: list[str] = []

    def work(rank: int, workers: int) -> None:
        model = nn.Sequential(nn.Embedding(20, 4, sparse=True), nn.Flatten(), nn.Linear(8, 3))
        optimizer = HessianFree(model.parameters())
        rows = torch.arange(24).view(12, 2) % 20
        objective = Objective(model, F.cross_entropy, (rows, torch.arange(12) % 3))
        with pytest.raises(TypeError, match=r"0\.weight: .*sparse=False") as caught:
            optimizer.step(objective)
        messages.append(str(caught.value))

    simulate(2, work)
    assert len(messages) == 2


@pytest.mark.support("copy.deepcopy or pickle of the optimiser", NAME, refused=True)
@pytest.mark.parametrize("act", [copy.deepcopy, pickle.dumps], ids=lambda f: f.__name__)
def test_the_optimiser_is_not_copied(act: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"cannot be copied or pickled.*state_dict\(\)"):
        act(HessianFree(nn.Linear(2, 1).parameters()))
