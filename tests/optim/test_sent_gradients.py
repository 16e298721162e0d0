"""What becomes of gradients between the backward that sends them and the step that applies them.

Plain torch is the oracle for all that is supported; what is not is refused by name, on every worker
alike, and the optimiser can go on.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.conftest import RunRanks
from tests.optim.oracle import (
    MANY_BUCKETS,
    ONE_BIT,
    Loop,
    accumulated,
    batch,
    gan,
    looked_at,
    perceptron,
    skipped,
    values,
)
from thinwire import OneBitSGD, OwnerOptimizer, WithdrawnError, simulate

FRONTS = ("OneBitSGD", "OwnerOptimizer")
BOTH = [OneBitSGD, lambda named, **options: OwnerOptimizer(torch.optim.SGD, named, **options)]
LOOPS = {
    "a backward through an optimiser's model that its step() does not follow (GAN)": gan,
    "a batch whose gradients all workers throw away": skipped,
    "a gradient that is looked at, then zero_grad()": looked_at,
    "discard() and a second backward that adds to the gradients": accumulated,
}


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("way", ONE_BIT)
@pytest.mark.parametrize(
    "loop",
    [pytest.param(loop, marks=pytest.mark.support(s, *FRONTS)) for s, loop in LOOPS.items()],
)
def test_gradients_that_are_not_applied_leave_no_trace(loop: Loop, way: str, world: int) -> None:
    expected = values(loop(lambda m: torch.optim.SGD(m.parameters(), lr=0.1), 0, 1))
    for models in simulate(world, lambda rank, world: loop(ONE_BIT[way], rank, world)):
        torch.testing.assert_close(values(models), expected, rtol=1e-5, atol=1e-6)


def over_gloo(rank: int, world: int, loop: Loop) -> Tensor:
    return values(loop(ONE_BIT["at once"], rank, world))


@pytest.mark.parametrize("loop", [gan, looked_at])
def test_the_same_over_real_ranks(run_ranks: RunRanks, loop: Loop) -> None:
    expected = values(loop(lambda m: torch.optim.SGD(m.parameters(), lr=0.1), 0, 1))
    for found in run_ranks(2, over_gloo, loop):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


# --- changes between backward and step ------------------------------------------------------------


def clip(model: nn.Module) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 1e-6)


def clip_values(model: nn.Module) -> None:
    nn.utils.clip_grad_value_(model.parameters(), 1e-6)


def set_to_none(model: nn.Module) -> None:
    model.zero_grad()


def zero(model: nn.Module) -> None:
    model.zero_grad(set_to_none=False)


def replace(model: nn.Module) -> None:
    model[0].weight.grad = torch.ones_like(model[0].weight)


def edit_one(model: nn.Module) -> None:
    model[2].bias.grad[0] = 0.0


def clamp_data(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad.data.clamp_(-1e-6, 1e-6)


def unscale(model: nn.Module) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(()))
    scaler.unscale_(torch.optim.SGD(model.parameters()))


EDITS: dict[str, Callable[[Any], None]] = {
    "p.grad.data.clamp_() between backward and step": clamp_data,
    "GradScaler.unscale_ between backward and step": unscale,
    "clip_grad_norm_ between backward and step": clip,
    "clip_grad_value_ between backward and step": clip_values,
    "model.zero_grad() between backward and step": set_to_none,
    "model.zero_grad(set_to_none=False) between backward and step": zero,
    "grad replaced between backward and step": replace,
    "grad edited between backward and step": edit_one,
}


def edited(
    rank: int, world: int, make: Any, edit: Any, who: list[int], options: Any
) -> tuple[str, Tensor, Tensor]:
    """Two steps, one in between that ``who`` spoil; the message, and both models' values."""
    models = [perceptron(0, 20, 30, 30, 4) for _ in range(2)]
    optimizers = [make(m.named_parameters(), lr=0.1, **options) for m in models]
    message = ""
    for step in (0, 1, 2):
        for which, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            if which and step == 1:
                continue  # what the other takes back never was
            optimizer.zero_grad()
            model(batch(optimizer, step, rank, world)).square().mean().backward()
            if step == 1:
                if rank in who:
                    edit(model)
                with pytest.raises(WithdrawnError) as caught:
                    optimizer.step()
                message = str(caught.value)
            else:
                optimizer.step()
    return message, values(models[:1]), values(models[1:])


@pytest.mark.parametrize(("world", "who"), [(1, [0]), (2, [0, 1]), (2, [1])])
@pytest.mark.parametrize("options", [{"bucket_mb": 0.001}, {}], ids=["many buckets", "one bucket"])
@pytest.mark.parametrize("make", BOTH, ids=FRONTS)
@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(
            edit,
            marks=pytest.mark.support(
                subject, *FRONTS, refused=True, note="at step(), by name; zero_grad() discards"
            ),
        )
        for subject, edit in EDITS.items()
    ],
)
def test_a_change_after_sending_is_refused_by_all_and_leaves_no_trace(
    edit: Any, make: Any, options: dict[str, Any], world: int, who: list[int]
) -> None:
    """The optimiser goes on as if that backward had not been, with the residuals of one bit."""
    results = simulate(world, edited, make, edit, who, options)
    for message, refused, undisturbed in results:
        assert message.startswith(f"worker {who[0]}: the gradient of '")
        assert "optimizer.zero_grad() discards" in message
        assert torch.equal(refused, undisturbed)
        assert torch.equal(refused, results[0][1])


@pytest.mark.support("clip_grad_norm_ between backward and step, double-buffered", *FRONTS)
@pytest.mark.parametrize("way", ["double-buffered", "serial start"])
def test_where_gradients_leave_in_step_they_may_be_changed_before(way: str) -> None:
    models = [perceptron(0, 20, 30, 4) for _ in range(2)]
    optimizers = [ONE_BIT[way](models[0]), torch.optim.SGD(models[1].parameters(), lr=0.1)]
    for step in range(2):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            model(batch(optimizer, step, 0, 1)).square().mean().backward()
            clip(model)
            optimizer.step()
    torch.testing.assert_close(values(models[:1]), values(models[1:]))


def test_nothing_reads_gradients_once_backward_has_returned() -> None:
    """Not even of buckets that wait behind the wire."""
    model = perceptron(0, 20, 30, 30, 30, 4)
    optimizer = OneBitSGD(model.named_parameters(), lr=1.0, **MANY_BUCKETS)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer._schedules["steady"].closely = 0  # it would be noticed
    gate = threading.Event()
    optimizer._engine.thread.submit(lambda: gate.wait(20))
    model(batch(optimizer, 0, 0, 1)).square().mean().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    for parameter in model.parameters():
        parameter.grad.data.fill_(torch.nan)
    gate.set()
    optimizer.step()
    for parameter, was, gradient in zip(model.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), was - gradient)


def test_buckets_that_complete_out_of_order_are_copied_then_and_sent_in_order() -> None:
    first, last = (nn.Parameter(torch.zeros(600)) for _ in range(2))
    optimizer = OneBitSGD([("first", first), ("last", last)], lr=1.0, **MANY_BUCKETS)
    optimizer._schedules["steady"].closely = 0
    first.sum().backward()  # of the bucket that leaves last
    first.grad.data.fill_(torch.nan)
    last.sum().backward()
    optimizer.step()
    assert torch.equal(first, torch.full((600,), -1.0))
    assert torch.equal(last, torch.full((600,), -1.0))


# --- workers that do not do the same --------------------------------------------------------------


def one_discards(rank: int, world: int, options: dict[str, Any]) -> tuple[str, Tensor]:
    model = perceptron(0, 20, 30, 30, 4)
    optimizer = OneBitSGD(model.named_parameters(), **options)
    model(batch(optimizer, 0, rank, world)).square().mean().backward()
    with pytest.raises(WithdrawnError) as caught:
        optimizer.zero_grad() if rank else optimizer.step()
    model.zero_grad()
    model(batch(optimizer, 1, rank, world)).square().mean().backward()
    optimizer.step()
    return str(caught.value), values([model])


def test_a_worker_that_discards_what_others_apply_is_named_by_all() -> None:
    results = simulate(3, one_discards, {"bucket_mb": 0.001})
    messages = [message for message, _ in results]
    assert messages[0].startswith("worker 1: it discarded its gradients")
    assert messages[1].startswith("worker 1: it discarded its gradients")
    assert messages[2].startswith("worker 2: it discarded its gradients")
    assert all(torch.equal(found, results[0][1]) for _, found in results)


# --- other refusals -------------------------------------------------------------------------------


@pytest.mark.support(
    "a second backward before step() without no_sync()", *FRONTS, refused=True, note="no_sync()"
)
@pytest.mark.parametrize("make", BOTH, ids=FRONTS)
@pytest.mark.parametrize("options", [{"bucket_mb": 0.001}, {}], ids=["many buckets", "one bucket"])
def test_a_second_backward_is_refused_and_can_be_discarded(make: Any, options: Any) -> None:
    model = perceptron(0, 20, 30, 4)
    optimizer = make(model.named_parameters(), lr=0.1, **options)
    loss = model(batch(optimizer, 0, 0, 1)).square().mean()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=r"second backward .*no_sync\(\).*zero_grad\(\)"):
        loss.backward(retain_graph=True)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@pytest.mark.support(
    "GradScaler", *FRONTS, refused=True, note="bfloat16 autocast needs none; or DDP with the hook"
)
@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("way", ONE_BIT)
def test_a_grad_scaler_is_refused_by_name(way: str, unscale: bool) -> None:
    model = perceptron(0, 20, 30, 4)
    optimizer, scaler = ONE_BIT[way](model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = values([model])
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale(model(batch(optimizer, 0, 0, 1)).square().mean()).backward()
        if unscale:
            scaler.unscale_(optimizer)
            clip(model)
        with pytest.raises(RuntimeError, match=r"GradScaler: .* bfloat16 .*grad_scaler=scaler"):
            scaler.step(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    assert torch.equal(values([model]), before)
    optimizer.zero_grad()
    model(batch(optimizer, 0, 0, 1)).square().mean().backward()
    optimizer.step()


def test_a_disabled_grad_scaler_is_none() -> None:
    model = perceptron(0, 20, 4)
    optimizer, scaler = ONE_BIT["at once"](model), torch.amp.GradScaler("cpu", enabled=False)
    before = values([model])
    scaler.scale(model(batch(optimizer, 0, 0, 1)).square().mean()).backward()
    scaler.step(optimizer)
    assert not torch.equal(values([model]), before)


def test_samples_must_not_change_after_sending() -> None:
    model = perceptron(0, 20, 30, 4)
    optimizer = OneBitSGD(model.named_parameters(), **MANY_BUCKETS)
    optimizer.samples = 12
    model(batch(optimizer, 0, 0, 1)).square().mean().backward()
    optimizer.samples = 13
    with pytest.raises(WithdrawnError, match="`samples` was changed after gradients had been sent"):
        optimizer.step()


def test_double_buffer_must_not_change_after_sending() -> None:
    model = perceptron(0, 20, 30, 4)
    optimizer = OneBitSGD(model.named_parameters(), **MANY_BUCKETS)
    model(batch(optimizer, 0, 0, 1)).square().mean().backward()
    with pytest.raises(RuntimeError, match="double_buffer: expected a change between steps"):
        optimizer.double_buffer = True
    optimizer.step()
    optimizer.double_buffer = True


# --- conservation ---------------------------------------------------------------------------------


def account(rank: int, world: int, code: str, events: list[str]) -> dict[str, Tensor]:
    """Train with lr 1 and no momentum, so that updates are mean gradients; weigh what is where."""
    generator = torch.Generator().manual_seed(rank)
    weights = [nn.Parameter(torch.zeros(3, 90)) for _ in range(3)]
    optimizer = OneBitSGD(weights, lr=1.0, code=code, bucket_mb=0.001)
    computed = torch.zeros(3, 3, 90, dtype=torch.float64)
    for event in events:
        given = [torch.randn(3, 90, generator=generator) for _ in weights]
        optimizer.zero_grad()
        sum((w * g).sum() for w, g in zip(weights, given, strict=True)).backward()
        if event == "discard":
            optimizer.discard()
        elif event == "clip":
            nn.utils.clip_grad_norm_(weights, 1e-3)
            with pytest.raises(WithdrawnError):
                optimizer.step()
        elif event == "step":
            optimizer.step()
            computed += torch.stack(given).double() / world
    optimizer.zero_grad()
    carried = torch.zeros_like(computed)
    for i, entry in optimizer.state_dict()["state"].items():
        carried[i] += entry["residual"].double() / world
        if "owned" in entry:
            carried[i].view(-1)[slice(*entry["owned"])] += entry["owner_residual"].double()
    optimizer.close()
    applied = -torch.stack([w.detach() for w in weights]).double()
    return {"computed": computed, "carried": carried, "applied": applied}


@settings(max_examples=25)
@given(
    st.integers(1, 3),
    st.sampled_from(["sign", "rotated", "float32"]),
    st.lists(st.sampled_from(["step", "zero_grad", "discard", "clip"]), max_size=8),
)
def test_conservation_across_discards(world: int, code: str, events: list[str]) -> None:
    """Applied + carried = computed, of what was not discarded; the rest is nowhere."""
    results = simulate(world, account, code, events)
    assert all(torch.equal(result["applied"], results[0]["applied"]) for result in results)
    computed = sum(result["computed"] for result in results)
    carried = sum(result["carried"] for result in results)
    torch.testing.assert_close(results[0]["applied"] + carried, computed, rtol=1e-4, atol=1e-4)
