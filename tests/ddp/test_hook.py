"""The hook under DistributedDataParallel, over real ranks."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from tests.conftest import RunRanks
from tests.optim.problems import flat, full_loss, minibatch, network, share
from thinwire import OneBitState, onebit_hook
from thinwire.exchange import counts_of, with_counts

MANY_BUCKETS = {"bucket_cap_mb": 0.004}
STEPS = 12


def wrap(model: nn.Module, options: dict[str, Any], **ddp_options: Any) -> tuple[Any, OneBitState]:
    named = list(model.named_parameters())
    state = OneBitState(named_parameters=named, **{"code": "sign", **options})
    ddp = DistributedDataParallel(model, **{**MANY_BUCKETS, **ddp_options})
    ddp.register_comm_hook(state, onebit_hook)
    return ddp, state


def step_of(ddp: nn.Module, optimizer: Any, step: int, rank: int, world: int) -> None:
    inputs, targets = minibatch(step)
    optimizer.zero_grad()
    F.cross_entropy(ddp(inputs[rank::world]), targets[rank::world]).backward()
    optimizer.step()


def train(
    rank: int, world: int, options: dict[str, Any], ddp_options: dict[str, Any], optimizer: str
) -> dict[str, Any]:
    model = network()
    ddp, state = wrap(model, options, **ddp_options)
    kinds = {
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5),
        "adamw": lambda: torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.5, 0.999)),
        "adafactor": lambda: torch.optim.Adafactor(model.parameters(), lr=0.05),
    }
    chosen = kinds[optimizer]()
    for step in range(STEPS if options.get("code") == "float32" else 5 * STEPS):
        step_of(ddp, chosen, step, rank, world)
    return {"parameters": flat(model), "loss": full_loss(model), "state": state.ledger.state_dict()}


def train_alone(optimizer: Any) -> Tensor:
    """The mean over equal shares is the mean over the minibatch: plain torch."""
    model = network()
    chosen = optimizer(model.parameters())
    for step in range(STEPS):
        inputs, targets = minibatch(step)
        chosen.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        chosen.step()
    return flat(model)


DDP_OPTIONS: list[dict[str, Any]] = [
    {},
    {"find_unused_parameters": True},
    {"static_graph": True},
    {"gradient_as_bucket_view": True},
    {"bucket_cap_mb": 25},
]


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("ddp_options", DDP_OPTIONS, ids=str)
def test_float32_is_plain_ddp(run_ranks: RunRanks, world: int, ddp_options: dict[str, Any]) -> None:
    expected = train_alone(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5))
    for result in run_ranks(world, train, {"code": "float32"}, ddp_options, "sgd"):
        torch.testing.assert_close(result["parameters"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adafactor"])
@pytest.mark.parametrize("axis", ["output", "input"])
def test_one_bit_trains_with_any_optimiser(run_ranks: RunRanks, optimizer: str, axis: str) -> None:
    options = {"start_steps": 5, "axis": axis}
    results = run_ranks(3, train, options, {}, optimizer)
    for result in results:
        assert torch.equal(result["parameters"], results[0]["parameters"])
    assert results[0]["loss"] < 0.7 * full_loss(network())


@pytest.mark.slow
def test_buckets_do_not_matter(run_ranks: RunRanks) -> None:
    """The arithmetic belongs to parameters: one bucket or many, rebuilt or not, the same bits."""
    results = [
        run_ranks(3, train, {}, ddp_options, "sgd")[0]["parameters"] for ddp_options in DDP_OPTIONS
    ]
    for result in results[1:]:
        assert torch.equal(result, results[0])


class Conservation:
    """Adds up what was computed, what was handed to the optimiser and what is still carried."""

    def __init__(self, model: nn.Module, state: OneBitState) -> None:
        self.model, self.state = model, state
        self.axis = counts_of(state.state_dict())["axis"]
        self.computed = torch.zeros_like(flat(model), dtype=torch.float64)
        self.applied = torch.zeros_like(self.computed)

    def after_step(self, local: Tensor, samples: float, total: float) -> None:
        self.computed += samples * local.double()
        self.applied += total * gradients_of(self.model).double()

    def carried(self) -> dict[str, Tensor]:
        entries = self.state.state_dict()["state"]
        worker, owner = [], []
        for name, p in self.model.named_parameters():
            entry = entries.get(name)
            own = torch.zeros(p.numel(), dtype=torch.float64)
            if entry is None:
                worker.append(own)
                owner.append(own)
                continue
            if "owned" in entry:
                own[slice(*entry["owned"])] = entry["owner_residual"].double()
            if self.axis == "input" and p.dim() > 1:  # these runs are of the transpose
                own = own.view(*p.shape[1:], p.shape[0]).movedim(-1, 0).reshape(-1)
            worker.append(entry["residual"].reshape(-1).double())
            owner.append(own)
        return {"worker": torch.cat(worker), "owner": torch.cat(owner)}


class Branches(nn.Module):
    """Two heads of which a step uses one; the other gets no gradient."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(20, 50)
        self.heads = nn.ModuleList([nn.Linear(50, 4), nn.Linear(50, 4)])

    def forward(self, inputs: Tensor, head: int) -> Tensor:
        return self.heads[head](torch.relu(self.trunk(inputs)))


def conserve(rank: int, world: int, uneven: bool) -> dict[str, Any]:
    """Unused parameters, accumulation and uneven samples; gradients are local copies' own."""
    model = Branches()
    twin = Branches()
    ddp, state = wrap(model, {}, find_unused_parameters=True)
    books = Conservation(model, state)
    for step in range(9):
        # Head 1 is used by nobody in some steps, and by worker 0 alone in others.
        head = 1 if step % 3 == 1 or (step % 3 == 2 and rank == 0) else 0
        samples = float(rank + 1) if uneven else 1.0
        state.samples = samples
        twin.load_state_dict(model.state_dict())
        for net in (ddp, twin):
            net.zero_grad()
            inputs, targets = minibatch(step)
            if net is ddp and step == 4:
                with ddp.no_sync():
                    F.cross_entropy(ddp(inputs[rank::world], head), targets[rank::world]).backward()
            elif step == 4:
                F.cross_entropy(twin(inputs[rank::world], head), targets[rank::world]).backward()
            F.cross_entropy(net(inputs[rank::world], head), targets[rank::world]).backward()
        books.after_step(gradients_of(twin), samples, sum(range(1, world + 1)) if uneven else world)
    return {"computed": books.computed, "applied": books.applied, **books.carried()}


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_nothing_is_lost(run_ranks: RunRanks, world: int, uneven: bool) -> None:
    """Sum of gradients = what optimisers got + what workers and owners carry, at the end."""
    results = run_ranks(world, conserve, uneven)
    computed = sum(result["computed"] for result in results)
    carried = sum(result["worker"] + result["owner"] for result in results)
    torch.testing.assert_close(results[0]["applied"] + carried, computed, rtol=1e-4, atol=1e-4)
    assert carried.abs().max() > 0


def scaled(rank: int, world: int) -> dict[str, Any]:
    """GradScaler with an overflow on one worker in the middle, and a growing scale."""
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    ddp, state = wrap(model, {"grad_scaler": scaler})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scales, skipped = [], []
    for step in range(12):
        inputs, targets = minibatch(step)
        optimizer.zero_grad()
        loss = F.cross_entropy(ddp(inputs[rank::world]), targets[rank::world])
        if step == 5 and rank == world - 1:
            loss = loss * torch.inf
        before = flat(model)
        residuals = [e["residual"].clone() for e in entries_of(state)] if step == 5 else []
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if step == 5:
            assert torch.equal(before, flat(model)), "all skip together"
            after = [e["residual"] for e in entries_of(state)]
            assert all(torch.equal(a, b) for a, b in zip(residuals, after, strict=True))
        scales.append(scaler.get_scale())
        skipped.append(state.skipped)
    return {"parameters": flat(model), "scales": scales, "skipped": skipped}


def entries_of(state: OneBitState) -> list[dict[str, Any]]:
    return list(state.state_dict()["state"].values())


def unscaled(rank: int, world: int) -> Tensor:
    """The same without a scaler, leaving out the step that overflowed."""
    model = network()
    ddp, _ = wrap(model, {})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(12):
        if step != 5:
            step_of(ddp, optimizer, step, rank, world)
    return flat(model)


def test_an_overflow_skips_everywhere_and_the_loss_scale_leaves_residuals_alone(
    run_ranks: RunRanks,
) -> None:
    with_scaler = run_ranks(3, scaled)
    without = run_ranks(3, unscaled)[0]
    for result in with_scaler:
        assert result["skipped"] == [0] * 5 + [1] * 7
        assert len(set(result["scales"])) > 2, "the scale grew and was halved"
        # Scales are powers of two: not a bit differs from the run without scaling.
        assert torch.equal(result["parameters"], without)


def half_precision(rank: int, world: int, dtype: torch.dtype) -> float:
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=dtype == torch.float16)
    ddp, _ = wrap(model, {"start_steps": 3, "grad_scaler": scaler})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    for step in range(50):
        inputs, targets = minibatch(step)
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=dtype):
            loss = F.cross_entropy(ddp(inputs[rank::world]), targets[rank::world])
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return full_loss(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_scaling_and_clipping(run_ranks: RunRanks, dtype: torch.dtype) -> None:
    for loss in run_ranks(2, half_precision, dtype):
        assert loss < 0.8 * full_loss(network())


def bf16_gradients(rank: int, world: int) -> float:
    model = network().to(torch.bfloat16)
    ddp, _ = wrap(model, {})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    for step in range(50):
        inputs, targets = minibatch(step)
        optimizer.zero_grad()
        outputs = ddp(inputs[rank::world].to(torch.bfloat16))
        F.cross_entropy(outputs.float(), targets[rank::world]).backward()
        optimizer.step()
    return full_loss(model.float())


def test_bfloat16_models(run_ranks: RunRanks) -> None:
    for loss in run_ranks(2, bf16_gradients):
        assert loss < 0.8 * full_loss(network())


def compiled(rank: int, world: int) -> list[Tensor]:
    results = []
    for backend in (None, "aot_eager"):
        model = network()
        ddp, _ = wrap(model, {"start_steps": 2}, bucket_cap_mb=25)  # torch.compile's least is 1
        run = torch.compile(ddp, backend=backend) if backend else ddp
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(8):
            step_of(run, optimizer, step, rank, world)
        results.append(flat(model))
    return results


@pytest.mark.slow
def test_compiled_modules(run_ranks: RunRanks) -> None:
    for eager, under_compile in run_ranks(2, compiled):
        torch.testing.assert_close(under_compile, eager, rtol=1e-3, atol=1e-4)


class Tied(nn.Module):
    """A shared parameter and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(20, 20), nn.Linear(20, 20)
        self.two.weight = self.one.weight
        self.out = nn.Linear(20, 4)
        self.out.bias.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(torch.relu(self.two(torch.relu(self.one(inputs)))))


def two_models(rank: int, world: int) -> list[Tensor]:
    """Several DDP models in one process, one with shared and frozen parameters."""
    first, second = Tied(), network()
    pairs = []
    for model, options in ((first, {}), (second, {"overrides": {"0.weight": "float32"}})):
        ddp, _ = wrap(model, options)
        pairs.append((ddp, torch.optim.SGD(model.parameters(), lr=0.1)))
    for step in range(20):
        for ddp, optimizer in pairs:
            step_of(ddp, optimizer, step, rank, world)
    return [flat(first), flat(second), first.out.bias.detach() - Tied().out.bias]


def test_several_models_shared_and_frozen_parameters(run_ranks: RunRanks) -> None:
    results = run_ranks(2, two_models)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    assert not results[0][2].any()


def freeze_and_thaw(rank: int, world: int, ddp_options: dict[str, Any]) -> dict[str, Any]:
    """DDP must be made anew when parameters are frozen; the state goes on with the new one."""
    model, twin = network(), network()
    state = OneBitState(named_parameters=model.named_parameters())
    books = Conservation(model, state)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    waited = []
    for phase, frozen in enumerate((False, True, False)):
        for net in (model, twin):
            net[2].requires_grad_(not frozen)
        ddp = DistributedDataParallel(model, **ddp_options)
        ddp.register_comm_hook(state, onebit_hook)
        before = [state.state_dict()["state"][n]["residual"].clone() for n in FROZEN if phase]
        for step in range(5 * phase, 5 * phase + 5):
            twin.load_state_dict(model.state_dict())
            twin.zero_grad()
            inputs, targets = minibatch(step)
            F.cross_entropy(twin(inputs[rank::world]), targets[rank::world]).backward()
            step_of(ddp, optimizer, step, rank, world)
            books.after_step(gradients_of(twin), 1, world)
        after = [state.state_dict()["state"][n]["residual"] for n in FROZEN if phase]
        waited += [torch.equal(b, a) for b, a in zip(before, after, strict=True)]
    loaded = OneBitState(named_parameters=model.named_parameters())
    loaded.load_state_dict(state.state_dict())
    for name, entry in loaded.state_dict()["state"].items():
        original = state.state_dict()["state"][name]
        assert entry.keys() == original.keys()
        assert all(torch.equal(entry[k], original[k]) for k in entry.keys() - {"owned"})
    return {
        "computed": books.computed,
        "applied": books.applied,
        "carried": sum(books.carried().values()),
        "waited": waited,
    }


FROZEN = ("2.weight", "2.bias")


def gradients_of(model: nn.Module) -> Tensor:
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    return torch.cat([grad.reshape(-1) for grad in grads])


@pytest.mark.parametrize(
    "ddp_options",
    [MANY_BUCKETS, {"find_unused_parameters": True}],  # the second does not rebuild its bucket
    ids=str,
)
def test_frozen_and_thawed_parameters(run_ranks: RunRanks, ddp_options: dict[str, Any]) -> None:
    """What they carry waits while they are frozen, and goes on when they are not."""
    results = run_ranks(2, freeze_and_thaw, ddp_options)
    computed = sum(result["computed"] for result in results)
    carried = sum(result["carried"] for result in results)
    torch.testing.assert_close(results[0]["applied"] + carried, computed, rtol=1e-4, atol=1e-4)
    assert results[0]["waited"] == [True, True, False, False]


def uneven(rank: int, world: int) -> Tensor:
    model = network()
    ddp, state = wrap(model, {"code": "float32"})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    for step in range(STEPS):
        inputs, targets = share(minibatch(step), rank, world)
        state.samples = len(inputs)
        optimizer.zero_grad()
        F.cross_entropy(ddp(inputs), targets).backward()
        optimizer.step()
    return flat(model)


def test_uneven_minibatches_are_weighted(run_ranks: RunRanks) -> None:
    """The result is the mean over all samples, whoever has how many."""
    expected = train_alone(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5))
    for result in run_ranks(3, uneven):
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def resume(rank: int, world: int, ddp_options: dict[str, Any]) -> list[Tensor]:
    model = network()
    ddp, state = wrap(model, {"start_steps": 1}, **ddp_options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    saved: list[Any] = []
    for step in range(14):
        if step == 7:
            saved = copy.deepcopy([model.state_dict(), optimizer.state_dict(), state.state_dict()])
        step_of(ddp, optimizer, step, rank, world)
    other = network(seed=3)
    other_ddp, other_state = wrap(other, {"start_steps": 1}, **ddp_options)
    other_optimizer = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.5)
    other.load_state_dict(saved[0])
    other_optimizer.load_state_dict(saved[1])
    other_state.load_state_dict(saved[2])
    for step in range(7, 14):
        step_of(other_ddp, other_optimizer, step, rank, world)
    return [flat(model), flat(other)]


@pytest.mark.parametrize("ddp_options", DDP_OPTIONS[:3], ids=str)
@pytest.mark.parametrize("world", [1, 3])
def test_resume_is_bit_identical(
    run_ranks: RunRanks, world: int, ddp_options: dict[str, Any]
) -> None:
    """Although the new DDP begins with other buckets than the old one ended with."""
    for straight, resumed in run_ranks(world, resume, ddp_options):
        assert torch.equal(straight, resumed)


def fail_on_one(rank: int, world: int) -> str:
    """An exchange that raises must reach the script through backward, not hang."""
    model = network()
    ddp, state = wrap(model, {})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(2):  # the second one rebuilds the buckets
        step_of(ddp, optimizer, step, rank, world)
    for bucket in state._members.buckets():
        bucket.stages.sequence += rank  # workers out of step
    try:
        step_of(ddp, optimizer, 2, rank, world)
    except RuntimeError as error:
        return str(error)
    return "no error"


def test_an_error_in_the_exchange_ends_backward(run_ranks: RunRanks) -> None:
    for message in run_ranks(2, fail_on_one):
        assert "must hold the same parameters" in message


def made_too_early(rank: int, world: int) -> str:
    model = network()
    ddp, state = wrap(model, {})
    state._wire = state._wire.alone()  # what it would be without a process group
    try:
        step_of(ddp, torch.optim.SGD(model.parameters(), lr=0.1), 0, rank, world)
    except RuntimeError as error:
        return str(error)
    return "no error"


def test_a_state_made_before_the_process_group_is_refused(run_ranks: RunRanks) -> None:
    for message in run_ranks(2, made_too_early):
        assert "made for 1 worker(s), DDP has 2" in message


@pytest.mark.parametrize(
    "before", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."]
)
def test_wrappers_do_not_change_names(before: str) -> None:
    """torch.compile and DistributedDataParallel put something before them."""
    named = [(before + name, p) for name, p in network().named_parameters()]
    OneBitState(overrides={"0.weight": "float32"}, named_parameters=named)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="code: expected one of"):
        OneBitState(code="onebit")
    with pytest.raises(ValueError, match=r"overrides: \['x'\] are not among"):
        OneBitState(overrides={"x": "float32"}, named_parameters=network().named_parameters())
    with pytest.raises(ValueError, match=r"it is for world 5, this is 1; thinwire\.reshard"):
        OneBitState().load_state_dict(with_counts({"state": {}}, {"rank": 0, "world": 5}))
    with pytest.raises(ValueError, match="not made by thinwire"):
        OneBitState().load_state_dict({"state": {}})
    counts = {"rank": 0, "world": 1, "axis": "output", "buckets": [["x"]], "bucket_of": {"x": 0}}
    with pytest.raises(ValueError, match=r"it has \['x'\], which are not among named_parameters"):
        OneBitState().load_state_dict(with_counts({"state": {}}, counts))
    state = OneBitState(named_parameters=[("x", nn.Parameter(torch.zeros(3)))])
    with pytest.raises(ValueError, match=r"no tensors of \['x'\].*thinwire\.saved_states"):
        state.load_state_dict(with_counts({"state": {}}, counts))
    state = OneBitState(named_parameters=[("x", nn.Parameter(torch.zeros(3)))], axis="input")
    with pytest.raises(ValueError, match="for axis output, this is input"):
        state.load_state_dict(with_counts({"state": {}}, counts))


def discarding(rank: int, world: int, looks: bool) -> tuple[Tensor, dict[str, Any], int]:
    """Every third step the script looks at gradients of other samples, and does not apply them."""
    model = network()
    ddp, state = wrap(model, {})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(STEPS):
        if looks and step % 3 == 2:
            inputs, targets = minibatch(1000 + step)
            F.cross_entropy(ddp(inputs[rank::world]), targets[rank::world]).backward()
            state.discard()
        step_of(ddp, optimizer, step, rank, world)
    carried = {name: entry["residual"] for name, entry in state.state_dict()["state"].items()}
    return flat(model), carried, state.iteration


@pytest.mark.support("a backward that is discarded", "DDP hook")
def test_what_is_discarded_leaves_nothing_behind(run_ranks: RunRanks) -> None:
    looked, plain = (run_ranks(2, discarding, looks) for looks in (True, False))
    for (found, carried, count), (expected, kept, fewer) in zip(looked, plain, strict=True):
        assert torch.equal(found, expected)
        assert all(torch.equal(carried[name], kept[name]) for name in kept)
        assert count == fewer + STEPS // 3
