"""Parameters of any dtype under FSDP2."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from tests.conftest import RunRanks
from tests.optim.test_dtypes import ambient, samples
from thinwire import OneBitReduceScatter

NAME = "FSDP2"


def train(
    rank: int, world: int, dtype: torch.dtype, code: str | None, default: torch.dtype, mixed: bool
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 21), nn.Tanh(), nn.Linear(21, 8)).to(dtype)
    for p in model.parameters():
        p.data.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) / 4)
    model.register_parameter("count", nn.Parameter(torch.zeros(4, dtype=dtype), False))
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if mixed else None
    fully_shard(model, **({"mp_policy": policy} if policy else {}))
    with ambient(default):
        if code is not None:
            model.set_custom_reduce_scatter(OneBitReduceScatter(model, code=code))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
        for step in range(5):
            optimizer.zero_grad()
            out = model(samples(step, rank).to(dtype))
            (out.to(dtype) - 1).square().sum().div(64).backward()
            optimizer.step()
    return [p.full_tensor().detach() for p in model.parameters()]


FLOAT32 = torch.float32
CASES = [
    ("parameters of float32", torch.float32, False, 1e-5),
    ("parameters of float64", torch.float64, False, 1e-5),
    ("parameters of bfloat16", torch.bfloat16, False, 0.03),
    ("parameters of float16", torch.float16, False, 4e-3),
    ("MixedPrecisionPolicy(bfloat16, reduce float32)", torch.float32, True, 1e-5),
]


@pytest.mark.parametrize(
    ("dtype", "mixed", "bound"),
    [
        pytest.param(*case, id=subject, marks=pytest.mark.support(subject, NAME))
        for subject, *case in CASES
    ],
)
def test_every_dtype_trains_as_under_plain_fsdp(
    run_ranks: RunRanks, dtype: torch.dtype, mixed: bool, bound: float
) -> None:
    expected = run_ranks(2, train, dtype, None, FLOAT32, mixed)[0]
    for result in run_ranks(2, train, dtype, "float32", FLOAT32, mixed):
        for got, wanted in zip(result, expected, strict=True):
            assert got.dtype == wanted.dtype
            torch.testing.assert_close(got, wanted, rtol=bound, atol=bound)


@pytest.mark.support("torch.set_default_dtype(bfloat16 or float64)", NAME)
def test_the_default_dtype_changes_no_bit(run_ranks: RunRanks) -> None:
    expected = run_ranks(2, train, FLOAT32, "rotated", FLOAT32, False)[0]
    for default in (torch.bfloat16, torch.float64):
        got = run_ranks(2, train, FLOAT32, "rotated", default, False)[0]
        assert all(map(torch.equal, got, expected))


def refusals(rank: int, world: int) -> list[str]:
    messages = []
    for name in ("complex", "sparse"):
        model: Any = nn.Sequential(nn.Embedding(8, 6, sparse=name == "sparse"), nn.Linear(6, 2))
        if name == "complex":
            model = nn.Sequential(nn.Linear(4, 4, dtype=torch.complex64))
        fully_shard(model)
        with pytest.raises(TypeError) as caught:
            OneBitReduceScatter(model)
        messages.append(str(caught.value))
    model = fully_shard(nn.Sequential(nn.Linear(4, 4)))
    for act in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"cannot be copied or pickled.*state_dict\(\)"):
            act(OneBitReduceScatter(model))
    return messages


@pytest.mark.support("parameters of complex64", NAME, refused=True)
@pytest.mark.support("nn.Embedding(sparse=True)", NAME, refused=True, note="use sparse=False")
def test_what_cannot_be_scattered_is_refused_by_name(run_ranks: RunRanks) -> None:
    for complex_, sparse in run_ranks(2, refusals):
        assert complex_.startswith("0.weight: expected a parameter of dtype float32")
        assert "got complex64" in complex_
        assert sparse.startswith("0.weight: expected a dense gradient")
        assert "sparse=False" in sparse
