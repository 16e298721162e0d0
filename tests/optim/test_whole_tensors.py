"""Optimisers of whole tensors at the owner equal the same optimisers on one worker."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import thinwire
from tests.conftest import RunRanks
from tests.optim.oracle import values
from tests.optim.whole_tensors import (
    CASES,
    InAttribute,
    Lamb,
    loss_of,
    muon_and_adamw,
    network,
    share,
    take_step,
    train_plain,
)
from tests.rounding import apart, nudge
from thinwire import OwnerOptimizer, reshard, simulate
from thinwire.exchange import counts_of, share_out
from thinwire.quantize import from_wire

EXACT = {"code": "float32", "bucket_mb": 0.003}
WHOLE = "an optimiser that looks at whole tensors"
NOTE = "Muon, Adafactor, LAMB, LARS, Shampoo"
OWN = "Muon for matrices and AdamW for the rest"


def bound(case: str, steps: int) -> float:
    """How far rounding alone may carry: the most that was seen of nudged runs, times 8."""
    plain = values([train_plain(case, steps)[0]])
    nudged = [
        values([train_plain(case, steps, lambda m, s=seed: nudge(m.parameters(), s, 2))[0]])  # type: ignore[misc]
        for seed in (1, 2, 3)
    ]
    return 8 * max(apart(plain, other) for other in nudged)


def train(
    rank: int, world: int, case: str, steps: int, options: dict[str, Any], saved: Any = None
) -> dict[str, Any]:
    """A run, or the rest of one, and what this worker keeps."""
    model = network()
    optimizer = CASES[case][0](model, **options)
    first = 0
    if saved is not None:
        first, weights, states = saved
        model.load_state_dict(weights)
        optimizer.load_state_dict(reshard(states, rank, world))
    for step in range(first, steps):
        take_step(model, optimizer, step, rank, world)
    optimizer.flush()
    found = {
        "parameters": values([model]),
        "weights": copy.deepcopy(model.state_dict()),
        "state": copy.deepcopy(optimizer.state_dict()),
        "kept": kept(optimizer),
        "bytes": optimizer.ledger.total().bytes,
    }
    optimizer.close()
    return found


def kept(optimizer: OwnerOptimizer) -> int:
    """Values of the optimiser's state on this worker."""
    return sum(
        tensor.numel()
        for bucket in optimizer._engine.buckets
        for state in (bucket.state, *bucket.inner)
        for tensor in state.values()
        if tensor.numel() > 1  # counts of steps are on every worker where runs of values are owned
    )


def kept_plain(made: Any) -> int:
    states = [state for optimizer in made for state in optimizer.state.values()]
    tensors = [t for state in states for t in state.values() if isinstance(t, Tensor)]
    return sum(tensor.numel() for tensor in tensors if tensor.numel() > 1)


@pytest.mark.support(WHOLE, "OwnerOptimizer", note=NOTE)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("axis", ["output", "input"])
def test_any_number_of_workers_is_one_worker_in_plain_torch(case: str, axis: str) -> None:
    model, made = train_plain(case, 8)
    most = bound(case, 8)
    for world in (1, 2, 3):
        results = simulate(world, train, case, 8, {**EXACT, "axis": axis})
        for result in results:
            assert apart(values([model]), result["parameters"]) <= most
        assert all(torch.equal(r["parameters"], results[0]["parameters"]) for r in results)
        assert sum(result["kept"] for result in results) == kept_plain(made)


@pytest.mark.support(OWN, "OwnerOptimizer")
@pytest.mark.parametrize("world", [1, 2])
def test_over_real_ranks_it_is_the_same_to_the_bit(run_ranks: RunRanks, world: int) -> None:
    options = {"bucket_mb": 0.003}
    real = run_ranks(world, train, "Muon and AdamW", 5, options)
    again = run_ranks(world, train, "Muon and AdamW", 5, options)
    simulated = simulate(world, train, "Muon and AdamW", 5, options)
    for one, two, three in zip(real, again, simulated, strict=True):
        assert torch.equal(one["parameters"], two["parameters"])
        assert torch.equal(one["parameters"], three["parameters"])


@pytest.mark.parametrize("case", ["Muon and AdamW", "LAMB"])
@pytest.mark.parametrize(
    "options",
    [{"start": "serial", "start_steps": 3}, {"clip_norm": 1e6}, {"bucket_mb": 1.0}],
    ids=str,
)
def test_in_every_schedule(case: str, options: dict[str, Any]) -> None:
    expected = values([train_plain(case, 7)[0]])
    most = bound(case, 7)
    for result in simulate(3, train, case, 7, {**EXACT, **options}):
        assert apart(expected, result["parameters"]) <= most


def test_double_buffered_workers_are_one_worker() -> None:
    options = {**EXACT, "double_buffer": True}
    (alone,) = simulate(1, train, "LAMB", 8, options)
    most = bound("LAMB", 8)
    for result in simulate(3, train, "LAMB", 8, options):
        assert apart(alone["parameters"], result["parameters"]) <= most


# --- a job that goes on ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_another_number_of_workers_goes_on_as_if_nothing_had_been(case: str) -> None:
    """Three steps each on 3, 2, 1 and 3 workers are twelve of one."""
    expected = values([train_plain(case, 12)[0]])
    most, saved = bound(case, 12), None
    for number, world in enumerate((3, 2, 1, 3)):
        results = simulate(world, train, case, 3 * number + 3, EXACT, saved)
        states = [result["state"] for result in results]
        saved = 3 * number + 3, results[0]["weights"], states
        for i in range(len(list(network().parameters()))):
            owners = [state for state in states if "owned" in state["state"][i]]
            of_owner = [any(k.startswith("inner.") for k in s["state"][i]) for s in states]
            assert sum(of_owner) <= 1
            assert len(owners) == 1 or not any(of_owner)
    for result in results:
        assert apart(expected, result["parameters"]) <= most


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stop", [0, 3])
@pytest.mark.parametrize("options", [{}, {"double_buffer": True}, {"start": "serial"}], ids=str)
def test_a_checkpoint_goes_on_to_the_bit(case: str, stop: int, options: dict[str, Any]) -> None:
    full = {"bucket_mb": 0.003, "start_steps": 2, **options}

    def resumed(rank: int, world: int) -> tuple[Tensor, Tensor]:
        straight, other = network(), network(seed=3)
        one, two = (CASES[case][0](model, **full) for model in (straight, other))
        for step in range(6):
            if step == stop:
                other.load_state_dict(straight.state_dict())
                two.load_state_dict(copy.deepcopy(one.state_dict()))
            take_step(straight, one, step, rank, world)
            if step >= stop:
                take_step(other, two, step, rank, world)
        for optimizer in (one, two):
            optimizer.flush()
            optimizer.close()
        return values([straight]), values([other])

    for straight, other in simulate(2, resumed):
        assert torch.equal(straight, other)


def test_a_serial_start_may_be_left_with_another_number_of_workers() -> None:
    options = {**EXACT, "start": "serial", "start_steps": 4}
    first = simulate(2, train, "Shampoo", 2, options)
    saved = 2, first[0]["weights"], [result["state"] for result in first]
    expected, most = values([train_plain("Shampoo", 7)[0]]), bound("Shampoo", 7)
    for result in simulate(3, train, "Shampoo", 7, options, saved):
        assert apart(expected, result["parameters"]) <= most


def test_a_state_of_another_optimiser_is_refused() -> None:
    (result,) = simulate(1, train, "LAMB", 1, EXACT)
    optimizer = CASES["LARS"][0](network())
    with pytest.raises(
        ValueError, match=r"param group 0 was trained by Lamb, here it is given to Lars"
    ):
        optimizer.load_state_dict(result["state"])


def test_a_state_that_lacks_something_is_refused() -> None:
    (result,) = simulate(1, train, "LAMB", 1, EXACT)
    state = result["state"]
    optimizer = CASES["LAMB"][0](network())
    del state["state"][0]["inner.m"]
    with pytest.raises(ValueError, match=r"0.weight: expected 'inner.m' in its state, found \["):
        optimizer.load_state_dict(state)
    state["state"][0]["inner.m"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"0.weight: expected a m of shape \[30, 20\], got \[3\]"):
        optimizer.load_state_dict(state)


# --- few bits -------------------------------------------------------------------------------------


def accounts(
    rank: int, world: int, steps: int, code: Any, axis: str
) -> dict[str, dict[str, Tensor]]:
    """What a worker has computed, made of sums, applied and still carries; float64, by name."""
    model = network()
    optimizer = CASES["LAMB"][0](model, code=code, axis=axis, bucket_mb=0.003)
    kinds = "gradients", "summed", "made", "applied", "residual", "owner residual"
    named = dict(model.named_parameters())
    found = {kind: {n: torch.zeros_like(p).double() for n, p in named.items()} for kind in kinds}
    engine = optimizer._engine
    update = engine.post_process

    def noted(bucket: Any, group: Any, gradient: Tensor, start: int, samples: float) -> None:
        runs = bucket.owned_runs(start, start + len(gradient))
        owned = [(bucket.names[i], runs[i]) for i in bucket.owned(start, start + len(gradient))]
        for name, run in owned:
            found["summed"][name] += samples * from_wire(gradient[run], named[name].shape, axis)
        update(bucket, group, gradient, start, samples)
        for name, run in owned:
            found["made"][name] += from_wire(gradient[run], named[name].shape, axis)

    engine.post_process = noted
    part = share(rank, world)
    for step in range(steps):
        before = {name: p.detach().clone() for name, p in named.items()}
        take_step(model, optimizer, step, rank, world)
        for name, p in named.items():
            found["gradients"][name] += (part.stop - part.start) * p.grad.double()
            found["applied"][name] += before[name].double() - p.detach().double()
    for name, entry in zip(named, optimizer.state_dict()["state"].values(), strict=True):
        found["residual"][name] += entry["residual"]
        if "owned" in entry:
            carried = from_wire(entry["owner_residual"], named[name].shape, axis)
            found["owner residual"][name] += carried
    return found


@settings(max_examples=12, deadline=None)
@given(
    world=st.integers(1, 4),
    code=st.sampled_from(["sign", "rotated", "4-bit", ("sign", "8-bit")]),
    axis=st.sampled_from(["output", "input"]),
)
def test_nothing_is_lost_in_few_bits(world: int, code: Any, axis: str) -> None:
    """All gradients are summed or carried; all that owners make of them is applied or carried."""
    workers = simulate(world, accounts, 4, code, axis)
    for name, applied in workers[0]["applied"].items():
        total = {kind: sum(worker[kind][name] for worker in workers) for kind in workers[0]}
        torch.testing.assert_close(
            total["summed"] + total["residual"], total["gradients"], rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(
            applied + total["owner residual"], total["made"], rtol=1e-4, atol=1e-5
        )
        assert all(torch.equal(worker["applied"][name], applied) for worker in workers)


@pytest.mark.parametrize("case", CASES)
def test_one_bit_trains(case: str) -> None:
    options = {"code": "sign", "start": "4-bit", "start_steps": 10}

    def work(rank: int, world: int) -> tuple[float, float, Tensor]:
        model = network()
        optimizer = CASES[case][0](model, **options)
        before = loss_of(model, 10**6).item()
        for step in range(60):
            take_step(model, optimizer, step, rank, world)
        return before, loss_of(model, 10**6).item(), values([model])

    results = simulate(3, work)
    before, after, model = results[0]
    assert after < 0.7 * before
    assert all(torch.equal(result[2], model) for result in results)


# --- who owns what --------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(0, 1000), max_size=30),
    loads=st.lists(st.integers(0, 500), min_size=1),
)
def test_shares_are_even_but_for_one_parameter(sizes: list[int], loads: list[int]) -> None:
    owners = share_out(sizes, loads)
    total = [
        n + sum(s for s, o in zip(sizes, owners, strict=True) if o == k)
        for k, n in enumerate(loads)
    ]
    given_to = {owner for size, owner in zip(sizes, owners, strict=True) if size}
    for owner in given_to:
        last = min(s for s, o in zip(sizes, owners, strict=True) if o == owner and s)
        assert total[owner] - last <= min(total)


def test_a_group_that_is_added_later_goes_to_who_owns_least() -> None:
    def work(rank: int, world: int) -> list[int]:
        large, small = nn.Parameter(torch.ones(40, 30)), nn.Parameter(torch.ones(10, 30))
        optimizer = OwnerOptimizer(Lamb, [large], code="float32")
        optimizer.add_param_group({"params": [small]})
        return [bucket.exchange.stripe.values for bucket in optimizer._engine.buckets]

    assert simulate(2, work) == [[1200, 0], [0, 300]]


def test_parameters_that_nobody_has_used_are_left_alone() -> None:
    def work(rank: int, world: int) -> list[Tensor]:
        one, two = network(), network()
        optimizer = CASES["LAMB"][0](one, **EXACT)
        plain = Lamb(two.parameters())
        for step in range(6):
            for model in (one, two):
                for parameter in model[2].parameters():
                    parameter.requires_grad_(step % 2 == 0)
            take_step(one, optimizer, step, rank, world)
            plain.zero_grad()
            loss_of(two, step).backward()
            plain.step()
        return [values([one]), values([two])]

    for found, expected in simulate(2, work):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# --- param groups ---------------------------------------------------------------------------------


def test_a_group_begins_with_its_own_optimisers_defaults() -> None:
    optimizer = muon_and_adamw(network(), code="4-bit")
    two, rest = optimizer.param_groups
    assert two["momentum"] == 0.95
    assert "betas" not in two
    assert rest["betas"] == (0.9, 0.999)
    assert "momentum" not in rest
    assert two["code"] == rest["code"] == "4-bit"


def test_the_common_optimisers_options_hold_for_every_group_that_it_has() -> None:
    weight, bias = nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(4))
    groups = [{"params": [weight]}, {"params": [bias], "optimizer": torch.optim.AdamW}]
    optimizer = OwnerOptimizer(torch.optim.AdamW, groups, lr=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def muon_group(**options: Any) -> list[dict[str, Any]]:
    weight = nn.Parameter(torch.ones(4, 3))
    return [{"params": [("w", weight)], "optimizer": torch.optim.Muon, **options}]


@pytest.mark.parametrize(
    ("params", "error", "said"),
    [
        (muon_group(optimizer="Muon"), TypeError, "optimizer: expected a class such as .*got str"),
        (muon_group(betas=(0.9, 0.9)), TypeError, "Muon has no option 'betas', which is AdamW's"),
        (muon_group(momentum=-1.0), ValueError, "Muon cannot run at the owner: momentum should be"),
        (muon_group(lr=float("nan")), ValueError, "lr: expected a finite number, got nan"),
        (
            [{"params": [("bias", nn.Parameter(torch.ones(4)))], "optimizer": torch.optim.Muon}],
            ValueError,
            "bias: Muon cannot run .* only supports 2D .* Give it to another optimiser, in a param",
        ),
        (
            muon_group(params=[("w", nn.Parameter(torch.ones(4, 3, dtype=torch.complex64)))]),
            ValueError,
            "w: expected real values, got torch.complex64: Muon looks at whole tensors",
        ),
    ],
)
def test_groups_that_cannot_be_are_refused(params: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        OwnerOptimizer(torch.optim.AdamW, params)


class Mine(torch.optim.AdamW):
    """Passes its options on."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)


@pytest.mark.parametrize(
    ("kind", "options"), [(Mine, {"lr": 0.1}), (InAttribute, {"lr": 0.1, "normalised": True})]
)
def test_options_count_however_an_optimiser_takes_them(kind: Any, options: dict[str, Any]) -> None:
    one, two = network(), network()
    optimizer, plain = (
        OwnerOptimizer(kind, one.parameters(), code="float32", **options),
        kind(two.parameters(), **options),
    )
    for step in range(3):
        take_step(one, optimizer, step, 0, 1)
        plain.zero_grad()
        loss_of(two, step).backward()
        plain.step()
    torch.testing.assert_close(values([one]), values([two]), rtol=1e-4, atol=1e-5)


def shards(rank: int, world: int) -> None:
    mesh = init_device_mesh("cpu", (1, world), mesh_dim_names=("data", "model"))
    weight = nn.Parameter(distribute_tensor(torch.ones(4, 4), mesh["model"], [Shard(0)]))
    with pytest.raises(ValueError, match="w: expected an ordinary parameter, got a DTensor: Lamb"):
        OwnerOptimizer(Lamb, [("w", weight)], process_group=mesh["data"].get_group())


def test_parts_of_tensors_are_refused(run_ranks: RunRanks) -> None:
    run_ranks(2, shards)


def test_schedulers_reach_every_groups_optimiser() -> None:
    model = network()
    optimizer = muon_and_adamw(model, code="float32")
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step == 0))
    take_step(model, optimizer, 0, 0, 1)
    scheduler.step()
    before = values([model])
    take_step(model, optimizer, 1, 0, 1)
    assert torch.equal(before, values([model]))


def test_the_example_of_the_documentation_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "onebit.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Muon" in b]
    known: dict[str, Any] = {"torch": torch, "thinwire": thinwire, "model": network()}
    exec(block, known)
    take_step(known["model"], known["optimizer"], 0, 0, 1)
    found = [known["optimizer"].ownership(group) for group in known["optimizer"].param_groups]
    assert found == ["whole parameters", "runs of values"]


def test_a_state_of_the_time_before_groups_had_optimisers_loads() -> None:
    (result,) = simulate(1, train, "Adafactor", 2, EXACT)
    state = result["state"]
    del state["param_groups"][0]["optimizer"]
    optimizer = CASES["Adafactor"][0](network())
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["optimizer"] is torch.optim.Adafactor
    assert counts_of(optimizer.state_dict())["kept"] == counts_of(state)["kept"]
