"""OneBitReduceScatter under FSDP2 on gloo ranks."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

from tests.conftest import RunRanks
from tests.optim.problems import full_loss, minibatch
from thinwire import OneBitReduceScatter, reshard
from thinwire.fsdp.layout import ShardLayout


def network() -> nn.Sequential:
    """Rows that do not divide evenly, rows shorter than a group, and a vector."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(20, 61), nn.ReLU(), nn.Linear(61, 300), nn.ReLU(), nn.Linear(300, 4)
    )


def shard(model: nn.Sequential, code: str | None, **options: Any) -> list[OneBitReduceScatter]:
    """A nested FSDP module, of which backward reaches the gradients first, and the root."""
    modules = [model[2], model]
    for module in modules:
        fully_shard(module)
    if code is None:
        return []
    comms = []
    for module in modules:
        comms.append(OneBitReduceScatter(module, code=code, **options))
        module.set_custom_reduce_scatter(comms[-1])
    return comms


def full(tensors: Any) -> Tensor:
    return torch.cat([t.full_tensor().reshape(-1) for t in tensors]).detach()


def train(rank: int, world: int, code: str | None, steps: int) -> dict[str, Any]:
    model = network()
    comms = shard(model, code)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    for step in range(steps):
        inputs, targets = minibatch(step)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[rank::world]), targets[rank::world]).backward()
        optimizer.step()
    parameters = full(model.parameters())
    twin = network()
    torch.nn.utils.vector_to_parameters(parameters, twin.parameters())
    sent = sum(comm.ledger.total().bytes for comm in comms)
    return {"parameters": parameters, "loss": full_loss(twin), "bytes": sent}


@pytest.mark.parametrize("world", [2, 3])
def test_float32_is_fsdp(run_ranks: RunRanks, world: int) -> None:
    own = run_ranks(world, train, "float32", 10)
    reference = run_ranks(world, train, None, 10)
    for result, expected in zip(own, reference, strict=True):
        torch.testing.assert_close(
            result["parameters"], expected["parameters"], rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("world", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_one_bit_trains(run_ranks: RunRanks, world: int) -> None:
    results = run_ranks(world, train, "sign", 60)
    assert results[0]["loss"] < 0.6 * full_loss(network())
    if world > 1:
        dense = run_ranks(world, train, "float32", 60)
        assert results[0]["bytes"] < dense[0]["bytes"] / 15


class Books(OneBitReduceScatter):
    """Adds up what it is given and what it gives, in the layout of FSDP's buffers."""

    def __init__(self, module: nn.Module, **options: Any) -> None:
        super().__init__(module, **options)
        self.computed = torch.zeros(len(self.residual), dtype=torch.float64)
        self.applied = torch.zeros(len(self.residual) // self._world, dtype=torch.float64)

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, op: Any) -> None:
        given = input_tensor.double()
        super().__call__(output_tensor, input_tensor, group, op)
        self.last = given, self._world * output_tensor.double()  # AVG

    def keep(self) -> None:
        """The script took the step."""
        self.computed += self.last[0]
        self.applied += self.last[1]


def books_of(model: nn.Sequential, **options: Any) -> list[Books]:
    modules = [model[2], model]
    for module in modules:
        fully_shard(module)
    books = [Books(module, **options) for module in modules]
    for module, book in zip(modules, books, strict=True):
        module.set_custom_reduce_scatter(book)
    return books


def run_books(rank: int, world: int, poisoned: int | None, saved: Any, steps: range) -> Any:
    """Steps of which one is skipped, since the first layer's gradient is not finite there."""
    model = network()
    books = books_of(model)
    for book, states in zip(books, saved or [], strict=False):
        book.load_state_dict(reshard(states, rank, world))
    start = copy.deepcopy([book.state_dict() for book in books])
    for step in steps:
        model.zero_grad()
        inputs, targets = minibatch(step)
        before = [book.residual.clone() for book in books]
        handle = model[0].register_forward_hook(poison) if step == poisoned and rank == 0 else None
        F.cross_entropy(model(inputs[rank::world]), targets[rank::world]).backward()
        if handle is not None:
            handle.remove()
        after = [book.residual for book in books]
        if step == poisoned:
            nested, root = (bool(book.last[1].isfinite().all()) for book in books)
            assert (nested, root) == (True, False), "the nested module was exchanged before"
            assert all(map(torch.equal, before, after)), "the step never happened"
        elif world > 1:  # FSDP exchanges nothing otherwise, and what is carried waits
            assert not any(map(torch.equal, before, after))
            for book in books:
                book.keep()
    end = [copy.deepcopy(book.state_dict()) for book in books]
    sums = [[book.computed, book.applied, book.residual.double()] for book in books]
    return {"start": start, "end": end, "sums": sums}


def poison(module: nn.Module, inputs: Any, output: Tensor) -> None:
    output.register_hook(lambda gradient: gradient * torch.nan)


@pytest.mark.parametrize("poisoned", [None, 3])
@pytest.mark.parametrize("world", [2, 3])
def test_nothing_is_lost(run_ranks: RunRanks, world: int, poisoned: int | None) -> None:
    """Gradients of the steps taken = what they released + what is carried, module by module."""
    results = run_ranks(world, run_books, poisoned, None, range(8))
    for module in range(2):
        sums = [result["sums"][module] for result in results]
        computed = sum(computed for computed, _, _ in sums)
        applied = torch.cat([applied for _, applied, _ in sums])
        carried = sum(residual for _, _, residual in sums)
        assert carried.abs().max() > 0
        torch.testing.assert_close(applied + carried, computed, rtol=1e-4, atol=1e-4)


def test_the_residual_survives_other_numbers_of_workers(run_ranks: RunRanks) -> None:
    """4 -> 2 -> 3 -> 1 -> 3 workers: shards are padded otherwise each time."""
    saved: Any = None
    for number, world in enumerate((4, 2, 3, 1, 3)):
        steps = range(3 * number, 3 * number + 3)
        results = run_ranks(world, run_books, None, saved, steps)
        for module, states in enumerate(saved or []):
            loaded = [result["start"][module] for result in results]
            for name in states[0]["state"]:
                before = sum(state["state"][name]["residual"].double() for state in states)
                after = sum(state["state"][name]["residual"].double() for state in loaded)
                assert before.any()
                torch.testing.assert_close(after, before, rtol=2**-23, atol=2**-24)
        saved = [[result["end"][module] for result in results] for module in range(2)]
    names = [sorted(states[0]["state"]) for states in saved]
    assert names == [["bias", "weight"], ["0.bias", "0.weight", "4.bias", "4.weight"]]


def resume(rank: int, world: int) -> list[Tensor]:
    """Straight through, and by way of state dicts into objects that saw no backward."""
    results = []
    saved: list[Any] = []
    for steps in (range(8), range(4, 8)):
        model = network()
        comms = shard(model, "sign")
        for comm, state in zip(comms, saved, strict=False):
            comm.load_state_dict(state)
        for step in steps:
            if step == 4 and not saved:
                saved = copy.deepcopy([comm.state_dict() for comm in comms])
            inputs, targets = minibatch(step)
            model.zero_grad()
            F.cross_entropy(model(inputs[rank::world]), targets[rank::world]).backward()
        gradients = full([p.grad for p in model.parameters()])
        results += [gradients, *(comm.residual for comm in comms)]
    return results


@pytest.mark.parametrize("world", [1, 3])
def test_resume_is_bit_identical(run_ranks: RunRanks, world: int) -> None:
    for results in run_ranks(world, resume):
        for straight, resumed in zip(results[:3], results[3:], strict=True):
            assert torch.equal(straight, resumed)


def scaled(rank: int, world: int, scales: list[float]) -> list[Tensor]:
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    comms = shard(model, "sign", grad_scaler=scaler)
    gradients = []
    for step, scale in enumerate(scales):
        scaler.scale(torch.zeros(()))  # makes the scale
        scaler.update(scale)
        model.zero_grad()
        inputs, targets = minibatch(step)
        loss = F.cross_entropy(model(inputs[rank::world]), targets[rank::world])
        scaler.scale(loss).backward()
        gradients.append(full([p.grad for p in model.parameters()]) / scale)
    return [*gradients, *(comm.residual for comm in comms)]


def test_the_loss_scale_leaves_residuals_alone(run_ranks: RunRanks) -> None:
    """Scales are powers of two: not a bit differs."""
    one = run_ranks(2, scaled, [1.0] * 4)
    other = run_ranks(2, scaled, [256.0, 1024.0, 1024.0, 2.0])
    for results in zip(one, other, strict=True):
        for plain, unscaled in zip(*results, strict=True):
            assert torch.equal(plain, unscaled)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=1, max_size=4),
    st.integers(1, 5),
)
def test_the_layout_is_fsdps(shapes: list[list[int]], world: int) -> None:
    """Chunks of each parameter, padded, worker by worker; unpack undoes pack."""
    layout = ShardLayout([torch.Size(shape) for shape in shapes], world)
    generator = torch.Generator().manual_seed(0)
    whole = [torch.randn(shape, generator=generator) for shape in shapes]
    buffer = torch.full((layout.values,), torch.nan)
    layout.pack(whole, buffer)
    shards = []
    for rank in range(world):
        for tensor in whole:
            share = -(-len(tensor) // world)
            rows = tensor[rank * share : (rank + 1) * share]
            padding = torch.zeros(share - len(rows), *tensor.shape[1:])
            shards.append(torch.cat([rows, padding]).reshape(-1))
    assert torch.equal(buffer, torch.cat(shards))
    assert sum(stripe.values for stripe in layout.stripes) == layout.values == layout.columns.values
    for unpacked, tensor in zip(layout.unpack(buffer), whole, strict=True):
        assert torch.equal(unpacked, tensor)


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="fully_shard"):
        OneBitReduceScatter(network())
