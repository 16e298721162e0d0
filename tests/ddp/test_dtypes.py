"""Parameters of any dtype and layout under the hook, and models that are copied with it."""

import copy
import io
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.conftest import RunRanks
from tests.optim.test_dtypes import ambient, flat, loss_of, samples
from thinwire import OneBitState, onebit_hook

HOOK = "DDP hook"


class Net(nn.Module):
    """Each layer of a dtype of its own, hence a bucket of its own; and an empty parameter."""

    def __init__(self, dtypes: list[torch.dtype]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        sizes = [30, *[20] * (len(dtypes) - 1), 8]
        self.layers = nn.ParameterList(
            torch.randn(out, into, generator=generator, dtype=torch.float64).to(dtype)
            for into, out, dtype in zip(sizes, sizes[1:], dtypes, strict=False)
        )
        self.scale = nn.Parameter(torch.ones((), dtype=dtypes[0]))
        self.count = nn.Parameter(torch.arange(3), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = (x.to(layer.dtype) @ layer.t() / 8).tanh()
        return x * self.scale.to(x.dtype)


def wrap(net: nn.Module, hooked: bool, **options: Any) -> tuple[Any, OneBitState | None]:
    ddp = DistributedDataParallel(net)
    if not hooked:
        return ddp, None
    state = OneBitState(named_parameters=net.named_parameters(), **options)
    ddp.register_comm_hook(state, onebit_hook)
    return ddp, state


def train(
    rank: int, world: int, dtypes: list[torch.dtype], hooked: bool, code: Any = "float32"
) -> list[Tensor]:
    net = Net(dtypes)
    ddp, _state = wrap(net, hooked, code=code) if hooked else wrap(net, hooked)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5)
    for step in range(5):
        optimizer.zero_grad()
        loss_of(ddp, samples(step, rank)).backward()
        optimizer.step()
    return [p.detach() for p in net.parameters()]


BOUNDS = {
    torch.float32: 1e-5,
    torch.float64: 1e-5,
    torch.bfloat16: 0.03,
    torch.float16: 4e-3,
    torch.complex64: 1e-5,
    torch.complex128: 1e-5,
}
MIXED = [torch.float32, torch.bfloat16, torch.float16]
COMPLEX = [torch.complex64, torch.complex128]
SUPPORTED = [
    pytest.mark.support(f"parameters of {str(dtype).removeprefix('torch.')}", HOOK)
    for dtype in BOUNDS
]


@pytest.mark.parametrize(
    "dtypes",
    [
        pytest.param(MIXED, id="narrow", marks=[SUPPORTED[0], *SUPPORTED[2:4]]),
        pytest.param([torch.float64], id="float64", marks=SUPPORTED[1]),
        pytest.param(COMPLEX, id="complex", marks=SUPPORTED[4:]),
    ],
)
@pytest.mark.support("parameters of several dtypes", HOOK)
def test_every_dtype_trains_as_in_plain_ddp(run_ranks: RunRanks, dtypes: list[torch.dtype]) -> None:
    expected = run_ranks(2, train, dtypes, False)[0]
    bound = max(BOUNDS[dtype] for dtype in dtypes)
    start = [p.detach() for p in Net(dtypes).parameters()]
    for result in run_ranks(2, train, dtypes, True):
        for got, wanted, before in zip(result, expected, start, strict=True):
            assert got.dtype == wanted.dtype
            torch.testing.assert_close(got, wanted, rtol=bound, atol=bound)
            if before.is_floating_point() or before.is_complex():
                assert not torch.equal(got, before)


@pytest.mark.parametrize("dtypes", [COMPLEX, MIXED], ids=["complex", "narrow"])
def test_replicas_are_equal_to_the_bit(run_ranks: RunRanks, dtypes: list[torch.dtype]) -> None:
    one, *others = run_ranks(3, train, dtypes, True, "sign")
    for other in others:
        assert all(map(torch.equal, one, other))


def train_under(rank: int, world: int, dtype: torch.dtype) -> list[Tensor]:
    with ambient(dtype):
        return train(rank, world, [torch.float32, torch.bfloat16], True, ("rotated", "4-bit"))


@pytest.mark.support("torch.set_default_dtype(bfloat16 or float64)", HOOK)
def test_the_default_dtype_changes_no_bit(run_ranks: RunRanks) -> None:
    expected = run_ranks(2, train_under, torch.float32)[0]
    for dtype in (torch.bfloat16, torch.float64):
        assert all(map(torch.equal, run_ranks(2, train_under, dtype)[0], expected))


# --- what is refused ----------------------------------------------------------------------------


def sparse(rank: int, world: int, named: bool) -> str:
    net = nn.Sequential(nn.Embedding(50, 16, sparse=True), nn.Linear(16, 4))
    ddp = DistributedDataParallel(net)
    state = OneBitState(named_parameters=net.named_parameters() if named else None)
    ddp.register_comm_hook(state, onebit_hook)
    with pytest.raises((RuntimeError, TypeError)) as caught:
        ddp(torch.arange(8)).square().mean().backward()
    return str(caught.value)


@pytest.mark.support("nn.Embedding(sparse=True)", HOOK, refused=True, note="use sparse=False")
@pytest.mark.parametrize("named", [True, False])
def test_sparse_gradients_are_refused_on_every_worker(run_ranks: RunRanks, named: bool) -> None:
    for message in run_ranks(2, sparse, named):
        assert ("0.weight" if named else "a parameter of shape [50, 16]") in message
        assert "sparse=False" in message


@pytest.mark.support("parameters of float8", HOOK, refused=True)
def test_other_dtypes_are_refused_by_name() -> None:
    strange = nn.Parameter(torch.zeros(3).to(torch.float8_e5m2))
    with pytest.raises(TypeError, match=r"embed: expected .*, got float8_e5m2"):
        OneBitState(named_parameters=[("embed", strange)])


@pytest.mark.support(
    'DDP\'s Python reducer (optimize_ddp = "python_reducer")', HOOK, refused=True, note="one line"
)
def test_the_python_reducer_is_refused() -> None:
    """It hands over (gradient, parameter)."""
    bucket: Any = (torch.zeros(3), nn.Parameter(torch.zeros(3)))
    with pytest.raises(RuntimeError, match=r'optimize_ddp = "ddp_optimizer"'):
        onebit_hook(OneBitState(), bucket)


# --- memory formats -----------------------------------------------------------------------------

FORMATS = {
    "conv2d": (lambda: nn.Conv2d(300, 4, 3, bias=False), torch.channels_last),
    "conv3d": (lambda: nn.Conv3d(6, 4, 3, bias=False), torch.channels_last_3d),
    "transposed": (lambda: nn.ConvTranspose2d(6, 8, 3, bias=False), torch.channels_last),
}


class Linear(nn.Module):
    """Gradients that do not depend on the memory format: what is given, times 1."""

    def __init__(self, kind: str, memory: Any) -> None:
        super().__init__()
        build = FORMATS[kind][0]
        self.inner = build().to(memory_format=memory)
        generator = torch.Generator().manual_seed(3)
        self.inner.weight.data.copy_(torch.randn(self.inner.weight.shape, generator=generator))

    def forward(self, given: Tensor) -> Tensor:
        return (self.inner.weight * given).sum()


def switch(rank: int, world: int, kind: str, first: Any, second: Any) -> tuple[Tensor, Any]:
    stored: Any = None
    for part, memory in enumerate((first, second)):
        net = Linear(kind, memory)
        ddp, state = wrap(net, True)
        assert state is not None
        if stored is not None:
            net.load_state_dict(stored[0])
            state.load_state_dict(stored[1])
        for step in range(3 * part, 3 * part + 3):
            generator = torch.Generator().manual_seed(10 * step + rank)
            net.zero_grad()
            ddp(torch.randn(net.inner.weight.shape, generator=generator)).backward()
            with torch.no_grad():
                net.inner.weight -= 0.1 * net.inner.weight.grad
        stored = copy.deepcopy((net.state_dict(), state.state_dict()))
    return stored[0]["inner.weight"].contiguous(), stored[1]["state"]["inner.weight"]["residual"]


@pytest.mark.support("channels_last weights", HOOK)
@pytest.mark.parametrize(
    "kind", ["conv2d", *(pytest.param(k, marks=pytest.mark.slow) for k in ("conv3d", "transposed"))]
)
def test_states_do_not_depend_on_the_memory_format(run_ranks: RunRanks, kind: str) -> None:
    plain, other = torch.contiguous_format, FORMATS[kind][1]
    expected = run_ranks(2, switch, kind, plain, plain)
    for formats in ((other, other), (plain, other), (other, plain)):
        for got, wanted in zip(run_ranks(2, switch, kind, *formats), expected, strict=True):
            assert all(map(torch.equal, got, wanted))


# --- copies -------------------------------------------------------------------------------------


def copied(rank: int, world: int) -> list[Tensor]:
    results = []
    for copying in (False, True):
        net = Net([torch.float32])
        ddp, state = wrap(net, True)
        assert state is not None
        average = torch.optim.swa_utils.AveragedModel(ddp, avg_fn=lambda a, b, n: b)
        for step in range(4):
            net.zero_grad()
            loss_of(ddp, samples(step, rank)).backward()
            if copying:
                before = state.iteration
                stored = io.BytesIO()
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    torch.save(ddp, stored)
                assert any("store its state_dict()" in str(w.message) for w in caught)
                stored.seek(0)
                for other in (copy.deepcopy(ddp), torch.load(stored, weights_only=False)):
                    loss_of(other, samples(step, rank)).backward()
                average.update_parameters(ddp)
                loss_of(average, samples(step, rank)).backward()
                assert state.iteration == before
            with torch.no_grad():
                for p in net.parameters():
                    if p.grad is not None:
                        p -= 0.1 * p.grad
        results.append(flat(net))
    return results


@pytest.mark.support("copy.deepcopy, torch.save or AveragedModel of the model", HOOK)
def test_copies_of_a_hooked_model_are_plain_models(run_ranks: RunRanks) -> None:
    for one, other in run_ranks(2, copied):
        assert torch.equal(one, other)


@pytest.mark.support("pickle of the state", HOOK, refused=True, note="use state_dict()")
def test_what_is_left_of_a_state_says_so() -> None:
    with pytest.warns(UserWarning, match=r"store its state_dict\(\)"):
        raw = pickle.dumps(OneBitState())
    for left in (pickle.loads(raw), copy.deepcopy(OneBitState())):
        with pytest.raises(RuntimeError, match="Make a new OneBitState"):
            onebit_hook(left, None)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="Make a new OneBitState"):
            left.state_dict()
