"""OneBitSGD on models split by parallelize_module: a 2-D mesh of four real ranks.

One job does everything and the tests look at what it brought back: ranks are expensive.
"""

import copy
import hashlib
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn import functional as F

from tests.conftest import THREADS
from tests.fresh_ranks import run_fresh_ranks
from tests.optim.problems import minibatch, network, serial
from thinwire import OneBitSGD, OwnerOptimizer, reshard
from thinwire.exchange import CountCollectives, local, shared_wire
from thinwire.optim.shards import sharded_dim

pytestmark = pytest.mark.timeout(300)  # four processes that each import torch

PLAN = {
    "0": ColwiseParallel(),
    "2": RowwiseParallel(),
    "4": RowwiseParallel(input_layouts=Replicate()),
}
OPTIONS: dict[str, Any] = {"lr": 0.05, "momentum": 0.5, "bucket_mb": 0.002}
STEPS, BATCH = 5, 48


def mesh_of(ways: int) -> DeviceMesh:
    return init_device_mesh("cpu", (4 // ways, ways), mesh_dim_names=("data", "model"))


def split(mesh: DeviceMesh, **options: Any) -> tuple[nn.Module, OneBitSGD]:
    model = parallelize_module(network(), mesh["model"], PLAN)
    group = mesh["data"].get_group()
    merged = {**OPTIONS, **options}
    return model, OneBitSGD(model.named_parameters(), process_group=group, **merged)


def step(model: nn.Module, optimizer: Any, mesh: DeviceMesh, number: int) -> list[Tensor]:
    """One minibatch in equal parts; the sub-gradients of this worker's shards."""
    row, rows = mesh["data"].get_local_rank(), mesh["data"].size()
    inputs, targets = (part.chunk(rows)[row] for part in minibatch(number, BATCH))
    optimizer.zero_grad()
    optimizer.samples = len(inputs) if optimizer.computes else 0
    if optimizer.computes:
        F.cross_entropy(model(inputs), targets).backward()
    gradients = [local(p.grad).clone() for p in model.parameters() if p.grad is not None]
    optimizer.step()
    return gradients


def whole(model: nn.Module) -> list[Tensor]:
    return [p.full_tensor() if isinstance(p, DTensor) else p for p in model.parameters()]


def held(model: nn.Module) -> list[Tensor]:
    return [local(p).detach().clone() for p in model.parameters()]


def digest(tensors: list[Tensor]) -> str:
    raw = torch.cat([t.detach().reshape(-1) for t in tensors])
    return hashlib.sha256(raw.numpy().tobytes()).hexdigest()


def dense(mesh: DeviceMesh) -> list[Tensor]:
    model, optimizer = split(mesh, code="float32", weight_decay=0.01)
    for number in range(STEPS):
        step(model, optimizer, mesh, number)
    return [t.detach().clone() for t in whole(model)]


def adam(mesh: DeviceMesh) -> list[Tensor]:
    model = parallelize_module(network(), mesh["model"], PLAN)
    group = mesh["data"].get_group()
    options = {"code": "float32", "process_group": group, "lr": 0.01}
    optimizer = OwnerOptimizer(torch.optim.AdamW, model.named_parameters(), **options)
    for number in range(STEPS):
        step(model, optimizer, mesh, number)
    return [t.detach().clone() for t in whole(model)]


def onebit(mesh: DeviceMesh) -> dict[str, Any]:
    """Plain 1-bit SGD with lr 1: what was computed, applied, and is still carried."""
    model, optimizer = split(mesh, lr=1.0, momentum=0.0, code="rotated")
    start, computed = held(model), [torch.zeros_like(t) for t in held(model)]
    with CountCollectives(shared_wire(mesh["model"].get_group(), optimizer.ledger), "activations"):
        for number in range(STEPS):
            for total, gradient in zip(computed, step(model, optimizer, mesh, number), strict=True):
                total += gradient
    shared = [local(p) for p in model.parameters() if sharded_dim(p) is None]
    return {
        "start": start,
        "end": held(model),
        "computed": computed,
        "state": copy.deepcopy(optimizer.state_dict()["state"]),
        "hash": digest(held(model)),
        "hash of what all hold": digest(shared),
        "traffic": optimizer.ledger.state_dict(),
        "dims": [sharded_dim(p) for p in model.parameters()],
    }


def spoilt(mesh: DeviceMesh, rank: int, value: float, **options: Any) -> tuple[Any, bool]:
    """A value that is too large in one worker's shard of one gradient: what all say and do."""
    model, optimizer = split(mesh, **options)
    before = held(model)
    if rank == 1:  # model rank 1 of data rank 0
        model[2].weight.register_hook(lambda gradient: torch.full_like(gradient, value))
    try:
        step(model, optimizer, mesh, 0)
    except FloatingPointError as error:
        return str(error), False
    report = optimizer.last_step
    assert report is not None
    return report.nonfinite, all(map(torch.equal, before, held(model)))


def going_on(mesh: DeviceMesh) -> bool:
    """Three steps, a state dict, two more; the same from the state dict."""
    options = {"adagrad": "local", "axis": "input", **serial(2 * BATCH)}
    model, optimizer = split(mesh, **options)
    other, resumed = split(mesh, **options)
    for number in range(STEPS):
        if number == 3:
            other.load_state_dict(model.state_dict())
            resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        step(model, optimizer, mesh, number)
        if number >= 3:
            step(other, resumed, mesh, number)
    return all(map(torch.equal, held(model), held(other)))


def saved(optimizer: OneBitSGD) -> list[dict[str, Any]]:
    """Every worker's state, as files would bring it."""
    everyone: list[Any] = [None] * 4
    torch.distributed.all_gather_object(everyone, copy.deepcopy(optimizer.state_dict()))
    return everyone


def over_grids() -> list[Any]:
    """2 x 2, then 4 x 1, 1 x 4 and 2 x 2 again: each job goes on from all the states before."""
    found = []
    states, parameters = None, None
    for job, ways in enumerate((2, 1, 4, 2)):
        mesh = mesh_of(ways)
        plan = PLAN if ways < 4 else {"0": ColwiseParallel(), "2": RowwiseParallel()}
        model = parallelize_module(network(), mesh["model"], plan) if ways > 1 else network()
        options = {**OPTIONS, "adagrad": "aggregate", "process_group": mesh["data"].get_group()}
        optimizer = OneBitSGD(model.named_parameters(), **options)
        if states is not None:
            for p, value in zip(model.parameters(), parameters, strict=True):
                if isinstance(p, DTensor):
                    value = distribute_tensor(value, p.device_mesh, p.placements).to_local()
                local(p).data.copy_(value)
            own = reshard(
                states,
                mesh["data"].get_local_rank(),
                4 // ways,
                mesh["model"].get_local_rank(),
                ways,
            )
            optimizer.load_state_dict(own)
        begin = copy.deepcopy(saved(optimizer))
        for number in range(2 * job, 2 * job + 2):
            step(model, optimizer, mesh, number)
        states = saved(optimizer)
        parameters = [t.detach().clone() for t in whole(model)]
        found.append((begin, states, parameters))
    return found


def in_parts(mesh: DeviceMesh) -> tuple[list[str], list[Tensor], list[Tensor]]:
    """One dense step of a norm whose tokens are spread over the model ranks, and by torch alone.

    The sequence-parallel style leaves every rank's part of the gradient.
    """
    norm = parallelize_module(nn.LayerNorm(6), mesh["model"], SequenceParallel())
    layouts: list[str] = []
    norm.bias.register_post_accumulate_grad_hook(lambda p: layouts.append(str(p.grad.placements)))
    group = mesh["data"].get_group()
    optimizer = OneBitSGD(norm.named_parameters(), 0.1, code="float32", process_group=group)
    inputs = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
    shard = inputs.chunk(2, 1)[mesh["model"].get_local_rank()]
    norm(shard.contiguous()).full_tensor().pow(3).mean().backward()
    optimizer.step()
    alone = nn.LayerNorm(6)
    alone(inputs).pow(3).mean().backward()
    return layouts, held(norm), [(p - 0.1 * p.grad).detach() for p in alone.parameters()]


def refusals(mesh: DeviceMesh) -> list[str]:
    data, model = mesh["data"], mesh["model"]
    found = []

    def refuse(parameter: DTensor, group: Any) -> None:
        try:
            OneBitSGD([("w", nn.Parameter(parameter))], process_group=group)
        except ValueError as error:
            found.append(str(error))

    values = torch.zeros(4, 4)
    refuse(distribute_tensor(values, model, [Shard(0)]), None)
    refuse(distribute_tensor(values, data, [Shard(0)]), data.get_group())
    refuse(distribute_tensor(values, mesh, [Replicate(), Shard(0)]), data.get_group())
    return found


def job(rank: int, world: int) -> dict[str, Any]:
    torch.set_num_threads(THREADS)
    mesh = mesh_of(2)
    return {
        "dense": dense(mesh),
        "adam": adam(mesh),
        "1-bit": onebit(mesh),
        "again": onebit(mesh)["hash"],
        "nan": spoilt(mesh, rank, torch.nan),
        "nan in the serial start": spoilt(mesh, rank, torch.nan, **serial(1000)),
        "overflow": spoilt(mesh, rank, 1e36, lr=1e4, code="float32"),
        "going on": going_on(mesh),
        "grids": over_grids(),
        "in parts": in_parts(mesh),
        "refusals": refusals(mesh),
    }


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    return run_fresh_ranks(4, job)


def alone(make: Any) -> list[Tensor]:
    """Plain torch, one process, whole minibatches."""
    model = network()
    optimizer = make(model.parameters())
    for number in range(STEPS):
        inputs, targets = minibatch(number, BATCH)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def test_dense_exchange_of_shards_is_torch_on_the_whole_model(results: list[Any]) -> None:
    expected = alone(lambda p: torch.optim.SGD(p, 0.05, 0.5, weight_decay=0.01))
    expected_adam = alone(lambda p: torch.optim.AdamW(p, 0.01))
    for result in results:
        torch.testing.assert_close(result["dense"], expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(result["adam"], expected_adam, rtol=1e-3, atol=1e-5)


def test_replicas_agree_over_both_axes_and_runs_repeat_themselves(results: list[Any]) -> None:
    runs = [result["1-bit"] for result in results]
    assert runs[0]["hash"] == runs[2]["hash"] != runs[1]["hash"] == runs[3]["hash"]
    assert len({run["hash of what all hold"] for run in runs}) == 1
    assert [result["again"] for result in results] == [run["hash"] for run in runs]


def test_nothing_is_lost_on_a_shard(results: list[Any]) -> None:
    """lr 1: parameters moved by the mean gradients, but for what worker and owner still carry."""
    for column in (0, 1):
        runs = [results[column]["1-bit"], results[column + 2]["1-bit"]]
        for i, (start, end) in enumerate(zip(runs[0]["start"], runs[0]["end"], strict=True)):
            computed = sum(run["computed"][i].double() / 2 for run in runs)
            entries = [run["state"][i] for run in runs]
            workers = sum(entry["residual"].double() for entry in entries) / BATCH
            owners = torch.cat([e["owner_residual"] for e in entries if "owned" in e]).view(
                end.shape
            )
            moved = start.double() - end.double()
            torch.testing.assert_close(moved + workers + owners, computed, rtol=1e-5, atol=1e-6)
            assert workers.abs().sum() > 0


def test_what_model_ranks_send_each_other_is_in_the_ledger(results: list[Any]) -> None:
    """Rows of 24 samples: two outputs summed, and the gradient of a split input gathered."""
    both_ways = 24 * (30 + 4)  # a ring over two sends each value once from each
    gathered = 24 * 15
    for result in results:
        traffic = result["1-bit"]["traffic"]
        assert traffic["activations"]["bytes"] == STEPS * 4 * (both_ways + gathered)
        assert traffic["activations"]["collectives"] == STEPS * 3
        assert traffic["model agreement"]["bytes"] == STEPS * 2 * 8


def test_what_one_model_rank_finds_all_act_on(results: list[Any]) -> None:
    for result in results:
        assert result["nan"] == ((0, "2.weight"), True)
        assert result["nan in the serial start"] == ((0, "2.weight"), True)
        assert "the update of '2.weight' is not finite" in result["overflow"][0]


def test_a_state_dict_goes_on_to_the_same_bits(results: list[Any]) -> None:
    assert all(result["going on"] for result in results)


def of_job(
    states: list[Any], i: int, dim: int | None, ways: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """One whole parameter: its residuals' sum, and its owner state."""
    rows = []
    for row in range(len(states) // ways):
        shards = [states[row * ways + m]["state"][i]["residual"].double() for m in range(ways)]
        rows.append(torch.cat(shards, dim) if dim is not None else shards[0])
    owned: dict[str, Tensor] = {}
    for kind in ("owner_residual", "momentum", "adagrad"):
        columns = []
        for m in range(ways):
            entries = [s["state"][i] for s in states[m::ways] if "owned" in s["state"][i]]
            entries.sort(key=lambda entry: entry["owned"])
            shape = states[m]["state"][i]["residual"].shape
            columns.append(torch.cat([entry[kind] for entry in entries]).view(shape))
        owned[kind] = torch.cat(columns, dim) if dim is not None else columns[0]
    return torch.stack(rows).sum(0), owned


def test_a_job_goes_on_on_other_grids(results: list[Any]) -> None:
    """2 x 2 -> 4 x 1 -> 1 x 4 -> 2 x 2: owner state exact, residuals' sums kept."""
    dims = {1: [None] * 6, 2: [0, 0, 1, None, 1, None], 4: [0, 0, 1, None, None, None]}
    jobs = results[0]["grids"]
    for result in results:
        for (_, _, mine), (_, _, first) in zip(result["grids"], jobs, strict=True):
            assert all(map(torch.equal, mine, first))
    for (was, now), (old, new) in zip(((2, 1), (1, 4), (4, 2)), pairwise(jobs), strict=True):
        for i in range(6):
            before = of_job(old[1], i, dims[was][i], was)
            after = of_job(new[0], i, dims[now][i], now)
            torch.testing.assert_close(after[0], before[0], rtol=1e-6, atol=1e-6)
            for kind, tensor in before[1].items():
                assert torch.equal(after[1][kind], tensor)


def test_a_gradient_left_in_parts_is_added_up(results: list[Any]) -> None:
    for result in results:
        layouts, found, expected = result["in parts"]
        assert layouts == ["(Partial(sum),)"]
        torch.testing.assert_close(found, expected)


def test_layouts_that_cannot_work_are_refused(results: list[Any]) -> None:
    default, data, both = results[0]["refusals"]
    hint = 'pass process_group=mesh["data"].get_group()'
    assert "w: its shards are on workers [0, 1], which the exchange takes for replicas" in default
    assert "w: its shards are on workers [0, 2], which the exchange takes for replicas" in data
    assert hint in default
    assert 'w: expected a one-dimensional mesh such as mesh["model"], got 2 dimensions' in both
