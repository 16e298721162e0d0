"""Parameters of any dtype and layout under the optimisers, with plain torch as the oracle."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thinwire import OneBitSGD, OwnerOptimizer, reshard, simulate
from thinwire.exchange import counts_of, with_counts

WORKERS, STEPS = 2, 6
Make = Callable[[Any], torch.optim.Optimizer]
BOTH = ("OneBitSGD", "OwnerOptimizer")


def onebit(code: str = "float32", **options: Any) -> Make:
    return lambda named: OneBitSGD(named, lr=0.1, momentum=0.5, code=code, **options)


def owner(code: str = "float32", **options: Any) -> Make:
    return lambda named: OwnerOptimizer(torch.optim.AdamW, named, lr=0.1, code=code, **options)


def sgd(named: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for _, p in named], lr=0.1, momentum=0.5)


class Widened(torch.optim.AdamW):
    """AdamW that computes in float32 where parameters are narrower, as an owner does.

    torch's own divides float16 by a root of zero: its eps is no float16 number.
    """

    def __init__(self, named: Any) -> None:
        self.narrow = [p for _, p in named if p.requires_grad]
        narrow = {torch.bfloat16, torch.float16}
        self.wide = [
            nn.Parameter(p.detach().float()) if p.dtype in narrow else p for p in self.narrow
        ]
        super().__init__(self.wide, lr=0.1)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for narrow, wide in zip(self.narrow, self.wide, strict=True):
            if narrow is not wide:
                wide.copy_(narrow)
                wide.grad = narrow.grad.float()
        super().step()
        for narrow, wide in zip(self.narrow, self.wide, strict=True):
            narrow.copy_(wide)


PAIRS = [
    pytest.param(onebit(), sgd, id="OneBitSGD"),
    pytest.param(owner(), Widened, id="OwnerOptimizer"),
]


class Net(nn.Module):
    """A scalar, an empty parameter, a transposed matrix, and what is frozen, of other dtypes."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.one = nn.Parameter(normal(20, 30).to(dtype))
        self.two = nn.Parameter(normal(8, 20).to(dtype).t())  # not contiguous
        self.scale = nn.Parameter(torch.ones((), dtype=dtype))
        self.nothing = nn.Parameter(torch.empty(0, 3, dtype=dtype))
        self.count = nn.Parameter(torch.arange(3), requires_grad=False)
        self.mask = nn.Parameter(torch.tensor([True, False]), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = (x.to(self.one.dtype) @ self.one.t() / 8).tanh()
        return self.scale * hidden @ self.two + self.nothing.sum()


def samples(step: int, rank: int) -> Tensor:
    generator = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(16, 30, generator=generator, dtype=torch.float32, device="cpu")


def loss_of(net: nn.Module, x: Tensor) -> Tensor:
    out = net(x)
    # A sum gives expanded gradients, with strides of zero.
    return (out - 1j if out.is_complex() else out - 1).abs().square().sum() / 128


def train(rank: int, workers: int, make: Make, dtype: torch.dtype, steps: int = STEPS) -> nn.Module:
    net = Net(dtype)
    optimizer = make(net.named_parameters())
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(net, samples(step, rank)).backward()
        optimizer.step()
    return net


def alone(make: Make, dtype: torch.dtype) -> nn.Module:
    net = Net(dtype)
    optimizer = make(net.named_parameters())
    for step in range(STEPS):
        net.zero_grad()
        parts = [loss_of(net, samples(step, rank)) for rank in range(WORKERS)]
        (sum(parts) / WORKERS).backward()
        optimizer.step()
    return net


def flat(net: nn.Module) -> Tensor:
    trained = [p.detach().reshape(-1) for p in net.parameters() if p.requires_grad]
    whole = torch.cat(trained)
    return torch.view_as_real(whole) if whole.is_complex() else whole


DTYPES = [
    # What travels is float32, so wider parameters get its precision, of every update.
    *((torch.float32, 1e-5), (torch.float64, 1e-5), (torch.bfloat16, 0.03), (torch.float16, 4e-3)),
    *((torch.complex64, 1e-5), (torch.complex128, 1e-5)),
]


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [
        pytest.param(d, b, id=str(d), marks=pytest.mark.support(f"parameters of {n}", *BOTH))
        for (d, b) in DTYPES
        for n in [str(d).removeprefix("torch.")]
    ],
)
@pytest.mark.parametrize(("make", "oracle"), PAIRS)
def test_every_dtype_trains_as_in_torch(
    make: Make, oracle: Make, dtype: torch.dtype, bound: float
) -> None:
    expected = alone(oracle, dtype)
    assert (flat(expected) - flat(Net(dtype))).abs().max() > 5 * bound
    for net in simulate(WORKERS, train, make, dtype):
        for got, wanted in zip(net.parameters(), expected.parameters(), strict=True):
            assert got.dtype == wanted.dtype
        torch.testing.assert_close(flat(net), flat(expected), rtol=bound, atol=bound)
        assert torch.equal(net.count, torch.arange(3))
        assert net.mask.tolist() == [True, False]


@pytest.mark.parametrize("make", [onebit("sign"), owner("4-bit")], ids=BOTH)
@pytest.mark.parametrize("dtype", [dtype for dtype, _ in DTYPES], ids=str)
def test_replicas_of_every_dtype_are_equal_to_the_bit(make: Make, dtype: torch.dtype) -> None:
    nets = simulate(3, train, make, dtype)
    for net in nets[1:]:
        assert torch.equal(flat(net), flat(nets[0]))


@pytest.mark.parametrize("make", [onebit(), owner()], ids=BOTH)
def test_worker_0s_parameters_arrive_to_the_last_bit(make: Make) -> None:
    """Also of float64, and beside other dtypes, of which some end at odd addresses."""

    def begin(rank: int, workers: int) -> list[Tensor]:
        torch.manual_seed(rank)
        dtypes = (torch.float16, torch.float64, torch.bfloat16, torch.complex128, torch.float32)
        made = [nn.Parameter(torch.randn(3, 5).to(d) + torch.rand(3, 5).to(d)) for d in dtypes]
        before = [p.detach().clone() for p in made]
        make([(f"p{i}", p) for i, p in enumerate(made)])
        return before if rank == 0 else [p.detach() for p in made]

    first, *others = simulate(3, begin)
    for other in others:
        assert all(map(torch.equal, first, other))


@pytest.mark.support("float64: updates too small for float32", "OneBitSGD")
def test_small_updates_reach_float64_parameters() -> None:
    def work(rank: int, workers: int) -> float:
        weight = nn.Parameter(torch.ones(4, dtype=torch.float64))
        optimizer = OneBitSGD([("weight", weight)], lr=1e-12, code="float32")
        weight.sum().backward()
        optimizer.step()
        return float(1 - weight[0].detach())

    assert simulate(2, work)[1] == pytest.approx(1e-12, rel=1e-3)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [onebit(), owner()], ids=BOTH)
class TestRefused:
    @pytest.mark.support("parameters of float8", *BOTH, refused=True)
    def test_dtypes_that_cannot_be_added(self, make: Make) -> None:
        strange = nn.Parameter(torch.zeros(3).to(torch.float8_e5m2))
        with pytest.raises(TypeError, match=r"embed: expected .*, got float8_e5m2: freeze it"):
            make([("embed", strange)])
        make([("embed", strange.requires_grad_(False)), ("w", nn.Parameter(torch.zeros(3)))])

    @pytest.mark.support("a parameter given twice", *BOTH, refused=True)
    def test_parameters_given_twice(self, make: Make) -> None:
        weight = nn.Parameter(torch.zeros(3))
        named = [("embed", weight), ("head", weight)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own of the same
            with pytest.raises(ValueError, match="head: expected every"):
                make(named)

    @pytest.mark.support("nn.Embedding(sparse=True)", *BOTH, refused=True, note="use sparse=False")
    @pytest.mark.parametrize("syncing", [True, False])
    def test_sparse_gradients_on_every_worker(self, make: Make, syncing: bool) -> None:
        messages: list[str] = []

        def work(rank: int, workers: int) -> None:
            net = nn.Sequential(nn.Embedding(50, 16, sparse=True), nn.Linear(16, 4))
            optimizer: Any = make(net.named_parameters())
            loss = net(torch.arange(8)).square().mean()
            context = nullcontext() if syncing else optimizer.no_sync()
            with context, pytest.raises(TypeError, match=r"0\.weight.*sparse=False") as caught:
                loss.backward()
            messages.append(str(caught.value))

        simulate(2, work)
        assert len(messages) == 2


# --- memory formats -----------------------------------------------------------------------------

CONVOLUTIONS = {  # rows of 2700 values are cut, those of 72 and 162 merged
    "conv1d": (lambda: nn.Conv1d(24, 12, 7), torch.contiguous_format),
    "conv2d": (lambda: nn.Conv2d(300, 4, 3), torch.channels_last),
    "conv3d": (lambda: nn.Conv3d(6, 4, 3), torch.channels_last_3d),
    "transposed": (lambda: nn.ConvTranspose2d(6, 8, 3), torch.channels_last),
}


@pytest.mark.support("channels_last weights", *BOTH)
@pytest.mark.parametrize("make", [onebit("sign"), owner("4-bit")], ids=BOTH)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_states_do_not_depend_on_the_memory_format(make: Make, kind: str) -> None:
    """Train in one format, save, load into the other: the same bits as in one format throughout.

    The gradients are given, since a convolution rounds otherwise in another format.
    """
    build, other = CONVOLUTIONS[kind]

    def step(net: nn.Module, optimizer: Any, number: int, rank: int) -> None:
        generator = torch.Generator().manual_seed(number * 10 + rank)
        optimizer.zero_grad()
        given = [torch.randn(p.shape, generator=generator) for p in net.parameters()]
        sum((p * g).sum() for p, g in zip(net.parameters(), given, strict=True)).backward()
        optimizer.step()

    def start(rank: int, formats: torch.memory_format) -> tuple[nn.Module, Any]:
        net, generator = build().to(memory_format=formats), torch.Generator().manual_seed(3)
        for p in net.parameters():
            p.data.copy_(torch.randn(p.shape, generator=generator))
        return net, make(net.named_parameters())

    def work(rank: int, workers: int, first: Any, second: Any) -> tuple[Tensor, Any]:
        net, optimizer = start(rank, first)
        for number in range(3):
            step(net, optimizer, number, rank)
        stored = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
        net, optimizer = start(rank, second)
        net.load_state_dict(stored[0])
        optimizer.load_state_dict(stored[1])
        for number in range(3, 6):
            step(net, optimizer, number, rank)
        return flat(net), stored[1]

    plain = torch.contiguous_format
    expected, state = simulate(2, work, plain, plain)[0]
    for first, second in ((other, other), (plain, other), (other, plain)):
        got, other_state = simulate(2, work, first, second)[0]
        assert torch.equal(got, expected)
        residual = other_state["state"][0]["residual"]
        assert torch.equal(residual, state["state"][0]["residual"])


def test_complex_states_are_resharded() -> None:
    def carried(states: list[Any]) -> Tensor:
        return torch.stack([s["state"][0]["residual"].double() for s in states]).sum(0)

    def work(rank: int, workers: int) -> Any:
        net = Net(torch.complex64)
        optimizer = onebit("sign")(net.named_parameters())
        loss_of(net, samples(0, rank)).backward()
        optimizer.step()
        return copy.deepcopy(optimizer.state_dict())

    def go_on(rank: int, workers: int, states: list[Any]) -> Any:
        optimizer = onebit("sign")(Net(torch.complex64).named_parameters())
        optimizer.load_state_dict(reshard(states, rank, workers))
        return copy.deepcopy(optimizer.state_dict())

    states = simulate(3, work)
    assert states[0]["state"][0]["residual"].shape == (20, 30, 2)
    again = simulate(2, go_on, states)
    torch.testing.assert_close(carried(again), carried(states), rtol=0, atol=1e-6)


# --- ambient defaults ---------------------------------------------------------------------------


@contextmanager
def ambient(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


EVERY = {
    "sign": onebit("sign"),
    "rotated": onebit(("rotated", "4-bit"), adagrad="aggregate"),
    "local adagrad": onebit("sign", adagrad="local"),
    "serial": onebit("sign", start="serial", start_steps=2),
    "buffered": onebit("sign", double_buffer=True),
    "owner": owner("4-bit"),
    "owner sgd": lambda named: OwnerOptimizer(torch.optim.SGD, named, lr=0.1, momentum=0.5),
}


@pytest.mark.support("torch.set_default_dtype(bfloat16 or float64)", *BOTH)
@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_the_default_dtype_changes_no_bit(make: Make, dtype: torch.dtype) -> None:
    expected = simulate(3, train, make, torch.float32, 4)
    with ambient(dtype):
        got = simulate(3, train, make, torch.float32, 4)
    for one, other in zip(expected, got, strict=True):
        assert torch.equal(flat(one), flat(other))


def test_steps_are_counted_beyond_what_bfloat16_can_count() -> None:
    net = Net(torch.float32)
    optimizer = owner()(net.named_parameters())
    loss_of(net, samples(0, 0)).backward()
    optimizer.step()
    optimizer.zero_grad()
    state = copy.deepcopy(optimizer.state_dict())
    counts = counts_of(state)
    counts["scalars"] = [{"step": 300.0} if used else used for used in counts["scalars"]]
    optimizer.load_state_dict(with_counts(state, counts))
    with ambient(torch.bfloat16):
        loss_of(net, samples(0, 0)).backward()
        optimizer.step()
    found = counts_of(optimizer.state_dict())["scalars"]
    assert found == [{"step": 301.0} if used else used for used in counts["scalars"]]
    assert {"step": 301.0} in found


@pytest.mark.support("torch.set_default_device", *BOTH)
@pytest.mark.parametrize(
    "make",
    [make for name, make in EVERY.items() if name != "owner"],
    ids=lambda make: make.__name__,
)
def test_the_default_device_takes_no_buffer(make: Make) -> None:
    """AdamW itself makes its count of steps there, so it is left out."""

    def work(rank: int, workers: int, device: str) -> Any:
        net = Net(torch.float32)
        batches = [samples(step, rank) for step in range(4)]
        with torch.device(device):
            optimizer: Any = make(net.named_parameters())
            for x in batches[:3]:
                optimizer.zero_grad()
                loss_of(net, x).backward()
                optimizer.step()
            state = copy.deepcopy(optimizer.state_dict())
            optimizer.load_state_dict(state)
            optimizer.zero_grad()
            loss_of(net, batches[3]).backward()
            optimizer.step()
        return flat(net)

    for one, other in zip(simulate(3, work, "cpu"), simulate(3, work, "meta"), strict=True):
        assert torch.equal(one, other)


# --- copies -------------------------------------------------------------------------------------


@pytest.mark.support("copy.deepcopy or pickle of the optimiser", *BOTH, refused=True)
@pytest.mark.parametrize("make", [onebit(), owner()], ids=BOTH)
@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, pickle.dumps], ids=lambda f: f.__name__)
def test_optimisers_are_not_copied(make: Make, act: Callable[[Any], Any]) -> None:
    optimizer = make(Net(torch.float32).named_parameters())
    with pytest.raises(TypeError, match=r"cannot be copied or pickled.*state_dict\(\)"):
        act(optimizer)


@pytest.mark.support("copy.deepcopy, torch.save or AveragedModel of the model", *BOTH)
@pytest.mark.parametrize("make", [onebit("sign"), owner("4-bit")], ids=BOTH)
def test_a_copied_model_exchanges_nothing(make: Make) -> None:
    """As an average of the parameters is kept: the copy is a plain model, in every step."""

    def step_alone(net: nn.Module, rank: int) -> None:
        net.zero_grad()
        for _ in range(2):  # the second would be one too many if it were exchanged
            net(samples(0, rank)).square().sum().backward()

    def work(rank: int, workers: int, copying: bool) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        net = nn.Linear(30, 8, bias=False)
        nn.init.normal_(net.weight, generator=generator)
        optimizer = make(net.named_parameters())
        average = torch.optim.swa_utils.AveragedModel(net)
        for step in range(4):
            optimizer.zero_grad()
            (net(samples(step, rank)) - 1).square().mean().backward()
            if copying:
                stored = io.BytesIO()
                torch.save(net, stored)
                stored.seek(0)
                for copied in (copy.deepcopy(net), torch.load(stored, weights_only=False)):
                    step_alone(copied, rank)
                average.update_parameters(net)
                step_alone(average, rank)
            optimizer.step()
        return flat(net)

    for one, other in zip(simulate(2, work, False), simulate(2, work, True), strict=True):
        assert torch.equal(one, other)
