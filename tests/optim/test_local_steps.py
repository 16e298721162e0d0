"""Local steps: rounds of any torch optimiser. The oracle is the same arithmetic in plain torch."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tests.conftest import RunRanks
from tests.optim.oracle import perceptron, values
from thinwire import LocalSteps, OneBitSGD, reshard, simulate
from thinwire.exchange import DifferentWorkersError, counts_of

LOCAL = "LocalSteps"
EXACT = {"code": "float32", "start": "float32", "bucket_mb": 0.001}


def muon_and_adamw(parameters: Iterable[nn.Parameter]) -> list[torch.optim.Optimizer]:
    """Two that share the parameters out: matrices, and the rest."""
    two, rest = list[nn.Parameter](), list[nn.Parameter]()
    for parameter in parameters:
        (two if parameter.ndim == 2 else rest).append(parameter)
    return [torch.optim.Muon(two, lr=0.02), torch.optim.AdamW(rest, lr=0.01)]


INNER: dict[str, Callable[..., Any]] = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "Muon and AdamW": muon_and_adamw,
}
# Muon computes in bfloat16, which turns a difference in the last place into one of lr / 128.
CLOSE = {"Muon and AdamW": {"rtol": 1e-2, "atol": 2e-3}}


def network(seed: int = 0) -> nn.Sequential:
    return perceptron(seed, 20, 30, 4)


def share(step: int, rank: int) -> Tensor:
    """Other samples on every worker, in every step."""
    return torch.randn(6, 20, generator=torch.Generator().manual_seed(100 * step + rank))


def gradients(model: nn.Module, step: int, rank: int) -> None:
    model.zero_grad()
    model(share(step, rank)).square().mean().backward()


def local(model: nn.Module, inner: str = "AdamW", **options: Any) -> LocalSteps:
    own = INNER[inner](model.parameters())
    return LocalSteps(own, model.named_parameters(), **{"every": 4, **options})


def train(rank: int, world: int, steps: int, inner: str, options: dict[str, Any]) -> list[Tensor]:
    """The model after each step."""
    model = network()
    optimizer = local(model, inner, **options)
    found = []
    for step in range(steps):
        gradients(model, step, rank)
        optimizer.step()
        found.append(values([model]))
    optimizer.close()
    return found


class Plain:
    """All workers of a job in plain torch, one after the other."""

    def __init__(self, world: int, inner: str, lr: float, momentum: float) -> None:
        self.models = [network() for _ in range(world)]
        self.inners = [INNER[inner](model.parameters()) for model in self.models]
        self.anchor = list(network().parameters())
        nesterov = momentum > 0
        self.outer = torch.optim.SGD(self.anchor, lr=lr, momentum=momentum, nesterov=nesterov)
        self.sent: list[list[Tensor]] = []

    def local_step(self, step: int) -> None:
        for k, (model, inner) in enumerate(zip(self.models, self.inners, strict=True)):
            gradients(model, step, k)
            for one in inner if isinstance(inner, list) else [inner]:
                one.step()

    def send(self) -> None:
        self.sent = [[p.data.clone() for p in model.parameters()] for model in self.models]
        for i, a in enumerate(self.anchor):
            a.grad = torch.stack([a.data - own[i] for own in self.sent]).mean(0)

    def land(self) -> None:
        if self.sent:
            self.outer.step()
        for model, own in zip(self.models, self.sent, strict=False):
            for p, a, before in zip(model.parameters(), self.anchor, own, strict=True):
                p.data = a.data - (before - p.data)
        self.sent = []


def expected(
    world: int, steps: int, inner: str, *, every: int, delay: int, **rates: float
) -> list[list[Tensor]]:
    """Every worker's model after each step: [worker][step]."""
    plain, found = Plain(world, inner, **rates), list[list[Tensor]]()
    for step in range(steps):
        plain.local_step(step)
        if delay and (step + 1) % every == delay:
            plain.land()
        if (step + 1) % every == 0:
            plain.send()
            if not delay:
                plain.land()
        found.append([values([model]) for model in plain.models])
    return [list(own) for own in zip(*found, strict=True)]


@pytest.mark.support("any torch optimiser's own steps between exchanges", LOCAL)
@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"every": 4, "momentum": 0.5, "lr": 1.0, "delay": 0},
        {"every": 3, "momentum": 0.0, "lr": 0.7, "delay": 0},
        {"every": 4, "momentum": 0.9, "lr": 0.7, "delay": 2},
        {"every": 1, "momentum": 0.5, "lr": 1.0, "delay": 0},
    ],
    ids=str,
)
def test_in_float32_it_is_the_plain_arithmetic(
    world: int, inner: str, options: dict[str, Any]
) -> None:
    found = simulate(world, train, 14, inner, {**EXACT, **options})
    for own, oracle in zip(found, expected(world, 14, inner, **options), strict=True):
        for model, right in zip(own, oracle, strict=True):
            bound = CLOSE.get(inner, {"rtol": 1e-4, "atol": 1e-5})
            torch.testing.assert_close(model, right, **bound)


def test_the_first_rounds_have_one_step_each() -> None:
    def work(rank: int, world: int) -> tuple[list[bool], int]:
        model = network()
        optimizer = local(model, every=4, start_steps=3)
        alike = []
        for step in range(11):
            gradients(model, step, rank)
            optimizer.step()
            anchor = torch.cat([a.reshape(-1) for a in optimizer.anchor.values()])
            alike.append(torch.equal(values([model]), anchor))
        return alike, optimizer.ledger.stages["gradients"].collectives

    for alike, rounds in simulate(2, work):
        assert alike == [True] * 3 + ([False] * 3 + [True]) * 2
        assert rounds == 5


class Observed(torch.optim.SGD):
    """Adds up how far its steps move each parameter, in float64."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, lr)
        self.moved = [torch.zeros_like(p, dtype=torch.float64) for p in self.own]

    @property
    def own(self) -> list[nn.Parameter]:
        return self.param_groups[0]["params"]

    def step(self, closure: Any = None) -> None:
        before = [p.detach().clone() for p in self.own]
        super().step()
        for moved, p, start in zip(self.moved, self.own, before, strict=True):
            moved += start.double() - p.detach().double()


def models_moved(
    rank: int, world: int, rounds: int, options: dict[str, Any], dtype: torch.dtype
) -> dict[str, Any]:
    """What a worker has moved in all, n_k d_k, and what the anchor has and is still carried."""
    model = network().to(dtype)
    inner = Observed(model.parameters(), lr=0.05)
    optimizer = LocalSteps(inner, model.named_parameters(), momentum=0.0, **options)
    first = {name: anchor.clone() for name, anchor in optimizer.anchor.items()}
    optimizer.samples = 1 + rank
    for step in range(rounds * options["every"]):
        model.zero_grad()
        model(share(step, rank).to(dtype)).square().mean().backward()
        optimizer.step()
    optimizer.flush()
    weight, entries = (1 + rank) * options["every"], optimizer.state_dict()["state"]
    carried, owned = {}, {}
    for i, (name, anchor) in enumerate(first.items()):
        carried[name] = entries[i]["residual"].double()
        flat = torch.zeros(anchor.numel(), dtype=torch.float64)
        if "owned" in entries[i]:
            flat[slice(*entries[i]["owned"])] = entries[i]["owner_residual"].double()
        turned = (
            anchor.ndim == 2 and options.get("axis") == "input"
        )  # wire order goes down the columns then
        owned[name] = flat.view(anchor.T.shape).T if turned else flat.view(anchor.shape)
    return {
        "computed": {n: weight * moved for n, moved in zip(first, inner.moved, strict=True)},
        "moved": {n: first[n].double() - a.double() for n, a in optimizer.anchor.items()},
        "residual": carried,
        "owned": owned,
        "anchor": optimizer.anchor,
    }


@settings(max_examples=12, deadline=None)
@given(
    world=st.integers(1, 4),
    every=st.integers(1, 4),
    delayed=st.booleans(),
    code=st.sampled_from(["sign", "rotated", "4-bit", "float32"]),
    axis=st.sampled_from(["output", "input"]),
)
def test_what_workers_moved_is_what_the_anchor_moved_and_what_is_carried(
    world: int, every: int, delayed: bool, code: str, axis: str
) -> None:
    """Delayed steps that are still under way when the run ends have not been sent."""
    delay = every - 1 if delayed and every > 1 else 0
    options = {"every": every, "delay": delay, "code": code, "axis": axis, "bucket_mb": 0.001}
    workers = simulate(world, models_moved, 4, options, torch.float32)
    samples = sum(every * (1 + rank) for rank in range(world))
    for name in workers[0]["computed"]:
        computed = sum(worker["computed"][name] for worker in workers)
        residual = sum(worker["residual"][name] for worker in workers)
        owned = sum(worker["owned"][name] for worker in workers)
        moved = workers[0]["moved"][name]
        torch.testing.assert_close(
            samples * (moved + owned) + residual, computed, rtol=1e-4, atol=2e-4 * samples
        )
        for worker in workers:
            assert torch.equal(worker["anchor"][name], workers[0]["anchor"][name])


@pytest.mark.support("bfloat16 and float64 parameters", LOCAL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_anchor_of_short_parameters_is_kept_in_float32(dtype: torch.dtype) -> None:
    options = {"every": 2, "delay": 0, "code": "sign"}
    workers = simulate(2, models_moved, 3, options, dtype)
    for name, anchor in workers[0]["anchor"].items():
        assert anchor.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert torch.equal(anchor, workers[1]["anchor"][name])


# --- over real ranks ----------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 2])
def test_over_real_ranks_it_is_the_same_to_the_bit(run_ranks: RunRanks, delay: int) -> None:
    options = {"every": 4, "delay": delay, "bucket_mb": 0.001}
    real = run_ranks(2, train, 10, "AdamW", options)
    again, simulated = (
        run_ranks(2, train, 10, "AdamW", options),
        simulate(2, train, 10, "AdamW", options),
    )
    for one, two, three in zip(real, again, simulated, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


# --- checkpoints --------------------------------------------------------------------------------


def go_on(
    rank: int, world: int, stop: int, options: dict[str, Any], inner: str = "AdamW"
) -> tuple[Tensor, Tensor]:
    """Train 12 steps, undisturbed and with a fresh start from a checkpoint after ``stop``."""
    ends = []
    for interrupted in (False, True):
        model = network()
        optimizer = local(model, inner, **options)
        for step in range(12):
            if interrupted and step == stop:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer.close()
                model = network(seed=5)
                optimizer = local(model, inner, **options)
                optimizer.load_state_dict(state)
            gradients(model, step, rank)
            optimizer.step()
        optimizer.end_round()
        ends.append(values([model]))
        optimizer.close()
    return ends[0], ends[1]


@pytest.mark.support("checkpoints, to the bit", LOCAL)
@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("stop", [3, 4, 5, 6, 8])
def test_a_checkpoint_at_any_step_goes_on_to_the_bit(stop: int, delay: int) -> None:
    for undisturbed, resumed in simulate(2, go_on, stop, {"delay": delay}):
        assert torch.equal(undisturbed, resumed)


@pytest.mark.support("Muon for matrices and AdamW for the rest", LOCAL)
@pytest.mark.parametrize("delay", [0, 2])
def test_muon_goes_on_to_the_bit(delay: int) -> None:
    for undisturbed, resumed in simulate(2, go_on, 6, {"delay": delay}, "Muon and AdamW"):
        assert torch.equal(undisturbed, resumed)


def test_muon_goes_on_with_another_number_of_workers_and_trains() -> None:
    held_out = torch.cat([share(10**4 + i, 0) for i in range(40)])

    def work(rank: int, world: int, saved: list[dict[str, Any]]) -> dict[str, Any]:
        model = network(seed=7 if saved else 0)
        optimizer = local(model, "Muon and AdamW", code="sign")
        losses = [model(held_out).square().mean().item()]
        if saved:
            optimizer.load_state_dict(copy.deepcopy(reshard(saved, rank, world)))
        for step in range(30):
            gradients(model, step, rank)
            optimizer.step()
        optimizer.end_round()
        losses.append(model(held_out).square().mean().item())
        return {"state": copy.deepcopy(optimizer.state_dict()), "losses": losses}

    first = simulate(3, work, [])
    second = simulate(2, work, [result["state"] for result in first])
    assert second[0]["losses"][1] < first[0]["losses"][1] < 0.5 * first[0]["losses"][0]
    assert second[0]["losses"][1] == second[1]["losses"][1]


def test_a_nan_is_forgotten_by_all_inner_optimisers() -> None:
    def work(rank: int, world: int) -> list[bool]:
        model = network()
        optimizer = local(model, "Muon and AdamW", every=1)
        for step in range(3):
            gradients(model, step, rank)
            if step == 1 and rank == 1:
                for parameter in model.parameters():
                    parameter.grad.fill_(torch.nan)
            optimizer.step()
        return [bool(parameter.isfinite().all()) for parameter in model.parameters()]

    for finite in simulate(2, work):
        assert all(finite)


def carried(states: list[dict[str, Any]], name: int) -> Tensor:
    """All that is under way for a parameter, in sums over samples."""
    total = torch.zeros((), dtype=torch.float64)
    for state in states:
        entry, counts = state["state"][name], counts_of(state)
        begun = entry.get("sent", entry["anchor"])
        total = total + entry["residual"].double()
        if "local" in entry:
            total = total + counts["moved_samples"] * (begun.double() - entry["local"].double())
    return total


@pytest.mark.support("checkpoints, with another number of workers", LOCAL)
@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2), (3, 1), (1, 2)])
def test_another_number_of_workers_loses_nothing(before: int, after: int, delay: int) -> None:
    def begin(rank: int, world: int) -> dict[str, Any]:
        model = network()
        optimizer = local(model, delay=delay)
        optimizer.samples = 2 + rank
        for step in range(5):  # one of the second round, and with a delay the first in flight
            gradients(model, step, rank)
            optimizer.step()
        return copy.deepcopy(optimizer.state_dict())

    states = simulate(before, begin)

    def finish(rank: int, world: int) -> tuple[dict[str, Any], Tensor]:
        model = network(seed=7)
        optimizer = local(model, delay=delay)
        optimizer.load_state_dict(copy.deepcopy(reshard(states, rank, world)))
        loaded = copy.deepcopy(optimizer.state_dict())
        for step in range(5, 9):
            gradients(model, step, rank)
            optimizer.step()
        optimizer.end_round()
        return loaded, values([model])

    results = simulate(after, finish)
    loaded = [state for state, _ in results]
    for name in states[0]["state"]:
        torch.testing.assert_close(
            carried(loaded, name), carried(states, name), rtol=1e-5, atol=1e-6
        )
        for rank, state in enumerate(loaded):
            assert torch.equal(state["state"][name]["anchor"], states[0]["state"][name]["anchor"])
            kept = states[rank % before]["inner"]["state"][name]["exp_avg"]
            assert torch.equal(state["inner"]["state"][name]["exp_avg"], kept)
    assert all(torch.equal(model, results[0][1]) for _, model in results)


# --- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.support("a NaN on one worker", LOCAL)
@pytest.mark.parametrize("delay", [0, 2])
def test_a_round_that_is_not_finite_is_dropped_by_all(delay: int) -> None:
    def work(rank: int, world: int) -> tuple[list[Tensor], list[Any], Tensor]:
        model = network()
        optimizer = local(model, delay=delay)
        anchors, reports = [], []
        for step in range(12):
            gradients(model, step, rank)
            if step == 5 and rank == 1:
                next(model.parameters()).grad.fill_(torch.nan)
            optimizer.step()
            anchors.append(torch.cat([a.reshape(-1).clone() for a in optimizer.anchor.values()]))
            reports.append(optimizer.last_round)
        optimizer.end_round()
        return anchors, reports, values([model])

    results = simulate(2, work)
    for anchors, reports, end in results:
        assert torch.equal(anchors[7 + delay], anchors[3 + delay])
        worker, _ = reports[7 + delay].nonfinite
        assert worker == 1
        assert end.isfinite().all()
        assert torch.equal(end, results[0][2])
        assert not torch.equal(end, anchors[3])


def test_too_many_in_a_row_end_training() -> None:
    def work(rank: int, world: int) -> None:
        model = network()
        optimizer = local(model, every=1, max_skips=2)
        next(model.parameters()).grad = torch.full_like(next(model.parameters()), torch.nan)
        optimizer.step()
        optimizer.step()
        with pytest.raises(FloatingPointError, match=r"3 steps in a row"):
            optimizer.step()

    simulate(2, work)


@pytest.mark.support("an uneven number of samples or steps", LOCAL)
def test_workers_count_by_their_samples() -> None:
    """Worker 1 has run out of data: it takes part with no samples, and moves with the others."""

    def work(rank: int, world: int) -> tuple[Tensor, Tensor]:
        model, alone = network(), network()
        optimizer = local(model, every=3, momentum=0.0, **EXACT)
        inner = INNER["AdamW"](alone.parameters())
        for step in range(3):
            gradients(alone, step, 0)
            inner.step()
            model.zero_grad()
            if rank == 0:
                gradients(model, step, 0)
            optimizer.samples = 6 if rank == 0 else 0
            optimizer.step()
        return values([model]), values([alone])

    for found, alone in simulate(2, work):
        torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)


def test_end_round_brings_uneven_workers_together() -> None:
    def work(rank: int, world: int) -> tuple[Tensor, Tensor]:
        model = network()
        optimizer = local(model, every=4, delay=1)
        for step in range(5 + rank):
            gradients(model, step, rank)
            optimizer.step()
        for _ in range(3):
            optimizer.end_round()  # the second and third have nothing to say
        anchor = torch.cat([a.reshape(-1) for a in optimizer.anchor.values()])
        for step in range(9, 13):
            gradients(model, step, rank)
            optimizer.step()
        optimizer.end_round()
        return values([model]), anchor

    results = simulate(2, work)
    assert all(torch.equal(a, results[0][i]) for r in results for i, a in enumerate(r))


@pytest.mark.parametrize("delay", [0, 2])
def test_the_model_is_lent_to_be_the_anchor(delay: int) -> None:
    """Nothing changes for training, and steps tell of the rounds that they bring to an end."""

    def work(rank: int, world: int) -> tuple[list[Tensor], list[bool], Tensor]:
        model, unseen = network(), network()
        optimizer, other = local(model, delay=delay), local(unseen, delay=delay)
        seen, ended = [], []
        for step in range(10):
            for one, by in ((model, optimizer), (unseen, other)):
                gradients(one, step, rank)
                by.step()
            own = values([model])
            with optimizer.at_anchor():
                seen.append(values([model]))
            assert torch.equal(values([model]), own)
            ended.append(optimizer.last_step is not None)
            assert optimizer.steps_in_round == (step + 1) % 4
        with pytest.raises(ZeroDivisionError), optimizer.at_anchor():
            _ = 1 / 0
        assert torch.equal(values([model]), values([unseen]))
        optimizer.flush()
        assert optimizer.last_step is None, "nothing was in flight"
        optimizer.end_round()
        other.end_round()
        assert torch.equal(values([model]), values([unseen]))
        return seen, ended, values([model])

    results = simulate(2, work)
    for seen, ended, end in results:
        assert all(torch.equal(a, b) for a, b in zip(seen, results[0][0], strict=True))
        assert [step for step in range(10) if ended[step]] == [3 + delay, 7 + delay]
        assert torch.equal(end, results[0][2])


@pytest.mark.support("batch norm", LOCAL, note="buffers given are averaged at every round")
def test_buffers_are_averaged_by_samples_and_survive_a_nan() -> None:
    def work(rank: int, world: int) -> tuple[Tensor, int]:
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        for parameter in model.parameters():
            nn.init.constant_(parameter, 0.1)
        inner = torch.optim.SGD(model.parameters(), lr=0.0)
        optimizer = LocalSteps(
            inner, model.named_parameters(), every=1, buffers=model.named_buffers()
        )
        model[1].running_mean.fill_(float(rank) if rank < 2 else torch.nan)
        model[1].num_batches_tracked.fill_(5 + rank)
        optimizer.samples = 1 + 2 * rank
        optimizer.step()
        return model[1].running_mean.clone(), int(model[1].num_batches_tracked)

    for mean, batches in simulate(3, work):
        torch.testing.assert_close(mean, torch.full((4,), 0.75))
        assert batches == 7


@pytest.mark.support("options or frozen parameters that differ later", LOCAL, refused=True)
def test_inner_options_that_differ_are_told() -> None:
    def work(rank: int, world: int) -> None:
        model = network()
        optimizer = local(model, every=2)
        optimizer.inner.param_groups[0]["lr"] = 0.1 * (1 + rank)
        gradients(model, 0, rank)
        optimizer.step()
        gradients(model, 1, rank)
        with pytest.raises(DifferentWorkersError, match=r"step: the inner lr of param group 0"):
            optimizer.step()

    simulate(2, work)


@pytest.mark.support("workers that were given different options or parameters", LOCAL, refused=True)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"every": 5}, "every is not the same"),
        ({"momentum": 0.9}, "momentum is not"),
        ({"inner": "SGD"}, "the inner optimiser is not"),
    ],
)
def test_workers_that_were_given_something_else(change: dict[str, Any], told: str) -> None:
    def work(rank: int, world: int) -> None:
        with pytest.raises(DifferentWorkersError, match=told):
            local(network(), **(change if rank else {}))

    simulate(2, work)


@pytest.mark.support("GradScaler", LOCAL)
def test_a_grad_scaler_skips_the_step_of_one_worker_only() -> None:
    def work(rank: int, world: int) -> tuple[Tensor, float]:
        model = network()
        optimizer = local(model, "SGD", every=2, momentum=0.0, **EXACT)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        for step in range(4):
            optimizer.zero_grad()
            loss = model(share(step, rank)).square().mean()
            scaler.scale(loss * (torch.inf if (step, rank) == (1, 1) else 1)).backward()
            scaler.step(optimizer)
            scaler.update()
        return values([model]), scaler.get_scale()

    def by_hand() -> Tensor:
        models = [network() for _ in range(2)]
        inners = [INNER["SGD"](model.parameters()) for model in models]
        for round_, weights in enumerate([(2.0, 1.0), (2.0, 2.0)]):
            for rank, (model, inner) in enumerate(zip(models, inners, strict=True)):
                for step in (2 * round_, 2 * round_ + 1):
                    if (step, rank) != (1, 1):
                        gradients(model, step, rank)
                        inner.step()
            together = (
                [p.data for p in models[0].parameters()],
                [p.data for p in models[1].parameters()],
            )
            for one, two in zip(*together, strict=True):
                mean = (weights[0] * one + weights[1] * two) / sum(weights)
                one.copy_(mean)
                two.copy_(mean)
        return values([models[0]])

    right = by_hand()
    for rank, (found, scale) in enumerate(simulate(2, work)):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)
        assert scale == (4.0 if rank else 8.0)


def test_clipping_and_schedules_act_on_the_inner_optimiser() -> None:
    def work(rank: int, world: int) -> tuple[Tensor, Tensor]:
        ends = []
        for thin in (True, False):
            model = network()
            inner = INNER["AdamW"](model.parameters())
            steps: Any = inner
            if thin:
                steps = LocalSteps(inner, model.named_parameters(), every=9, **EXACT)
            schedule = torch.optim.lr_scheduler.OneCycleLR(inner, 0.1, total_steps=10)
            for step in range(8):
                gradients(model, step, rank)
                nn.utils.clip_grad_norm_(model.parameters(), 0.01)
                steps.step()
                schedule.step()
            ends.append(values([model]))
        return ends[0], ends[1]

    for found, right in simulate(2, work):
        assert torch.equal(found, right)


REFUSED: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    (
        "a class in place of an optimiser",
        lambda: LocalSteps(torch.optim.AdamW, network().named_parameters(), every=4),  # type: ignore[arg-type]
        TypeError,
        "inner: expected a torch optimiser such as .* got AdamW",
    ),
    (
        "an optimiser that exchanges by itself",
        lambda: LocalSteps(OneBitSGD(network().parameters()), [], every=4),
        TypeError,
        "inner: expected an optimiser of one worker, got OneBitSGD",
    ),
    ("every=0", lambda: local(network(), every=0), ValueError, "every: expected a whole number"),
    ("delay >= every", lambda: local(network(), delay=4), ValueError, "delay: expected less than"),
    ("a serial start", lambda: local(network(), start="serial"), ValueError, "start: expected a c"),
    (
        "a parameter without a name",
        lambda: LocalSteps(INNER["SGD"](network().parameters()), [], every=4),
        ValueError,
        "named_parameters: expected every parameter of inner, lacks one of shape",
    ),
]


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        pytest.param(*row, id=what, marks=pytest.mark.support(what, LOCAL, refused=True))
        for what, *row in REFUSED
    ],
)
def test_mistakes(make: Callable[[], Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        make()


def test_lists_of_inner_optimisers_that_cannot_be_are_refused() -> None:
    model = network()
    named = list(model.named_parameters())
    with pytest.raises(ValueError, match="inner: expected at least one torch optimiser, got an em"):
        LocalSteps([], named, every=4)
    twice = [INNER["SGD"](model.parameters()), INNER["AdamW"](model.parameters())]
    with pytest.raises(
        ValueError, match=r"0\.weight: expected it in one inner optimiser, got it in"
    ):
        LocalSteps(twice, named, every=4)
    with pytest.raises(TypeError, match=r"inner: expected a torch optimiser .* or a list of them"):
        LocalSteps([torch.optim.AdamW], named, every=4)  # type: ignore[list-item]
    state = local(network(), "Muon and AdamW").state_dict()
    with pytest.raises(ValueError, match="expected the state of 1 inner optimisers, got 2"):
        local(network()).load_state_dict(state)


def test_a_group_that_is_added_later_is_refused() -> None:
    model = network()
    optimizer = local(model)
    optimizer.inner.add_param_group({"params": [nn.Parameter(torch.zeros(3))]})
    with pytest.raises(ValueError, match="make a new LocalSteps after add_param_group"):
        optimizer.step()


def test_bytes_are_those_of_one_exchange_a_round() -> None:
    """One bit each way and a header for each packet, every H steps."""

    def work(rank: int, world: int) -> tuple[int, int]:
        model = perceptron(0, 300, 300, 300)
        optimizer = local(model, every=8)
        agreed = optimizer.ledger.total().bytes
        for step in range(16):
            optimizer.zero_grad()
            inputs = torch.randn(4, 300, generator=torch.Generator().manual_seed(step))
            F.mse_loss(model(inputs), inputs).backward()
            optimizer.step()
        sent = optimizer.ledger.total().bytes - agreed
        return sent, sum(p.numel() for p in model.parameters())

    for sent, size in simulate(2, work):
        dense = 16 * 8 * size / 2  # 16 all-reduces of float32 between 2 workers
        assert 8 * 25 < dense / sent < 8 * 32


@pytest.mark.parametrize("delay", [0, 1])
def test_rounds_without_steps_keep_what_is_carried(delay: int) -> None:
    def work(rank: int, world: int, empty: int) -> list[Tensor]:
        model = network()
        optimizer = local(model, delay=delay)
        for step in range(8):
            gradients(model, step, rank)
            optimizer.step()
            if step == 3:
                for _ in range(1 + empty):
                    optimizer.end_round()
        optimizer.flush()
        entries = optimizer.state_dict()["state"].values()
        return [values([model]), *(entry["residual"].clone() for entry in entries)]

    for found, right in zip(simulate(2, work, 3), simulate(2, work, 0), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))


@pytest.mark.support("parameters that no worker has used in a step", LOCAL)
def test_what_nobody_moves_stays_where_it_is() -> None:
    """Whatever the outer momentum holds for it, and what it carries waits."""

    def work(rank: int, world: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        model = network()
        optimizer = local(model, every=2, momentum=0.9)
        for step in range(8):
            gradients(model, step, rank)
            if step == 4:
                before = model[0].weight.detach().clone()
                carried = optimizer.state_dict()["state"][0]["residual"].clone()
            if step >= 4:
                model[0].weight.grad = None
            optimizer.step()
        after = optimizer.state_dict()["state"][0]["residual"].clone()
        return before, model[0].weight.detach(), carried, after

    for before, weight, carried, after in simulate(2, work):
        assert torch.equal(before, weight)
        assert torch.equal(carried, after)
        assert carried.any()


def test_after_options_that_differed_a_round_goes_on() -> None:
    def work(rank: int, world: int, delay: int) -> Tensor:
        model = network()
        optimizer = local(model, every=2, delay=delay)
        rate = optimizer.param_groups[0]["lr"]
        for step in range(6):
            gradients(model, step, rank)
            optimizer.param_groups[0]["lr"] = rate * (2 if (step, rank) == (1, 1) else 1)
            try:
                optimizer.step()
            except DifferentWorkersError:
                assert step == 1 + delay
        optimizer.end_round()
        return values([model])

    for delay in (0, 1):
        one, two = simulate(2, work, delay)
        assert torch.equal(one, two)


def test_the_state_of_something_else_is_refused() -> None:
    model = network()
    with pytest.raises(ValueError, match="expected one that LocalSteps made, which has 'inner'"):
        local(model).load_state_dict(OneBitSGD(network().named_parameters()).state_dict())
