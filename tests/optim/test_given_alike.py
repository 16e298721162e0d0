"""Workers that were not given the same thing are refused before anything is sent, all of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import RunRanks
from tests.optim.oracle import batch, perceptron, values
from thinwire import HessianFree, OneBitSGD, OneBitState, OwnerOptimizer, simulate
from thinwire.exchange import DifferentWorkersError

Pick = Callable[..., Any]


def named(seed: int = 0) -> list[tuple[str, nn.Parameter]]:
    return list(perceptron(seed, 20, 20, 20, 4).named_parameters())


def swapped() -> list[tuple[str, nn.Parameter]]:
    """Two square layers in the other order; by shape nobody can tell."""
    first, second, *rest = (named()[i : i + 2] for i in range(0, 6, 2))
    return [*second, *first, *(pair for layer in rest for pair in layer)]


def owner(kind: Any, **options: Any) -> OwnerOptimizer:
    return OwnerOptimizer(kind, named(), lr=0.1, **options)


def adamw(**options: Any) -> OwnerOptimizer:
    return owner(torch.optim.AdamW, **options)


def newton(parameters: Any = None, **options: Any) -> HessianFree:
    return HessianFree(named() if parameters is None else parameters, **options)


def sgd(parameters: Any = None, **options: Any) -> OneBitSGD:
    return OneBitSGD(named() if parameters is None else parameters, **options)


def zeros(size: int, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(size, dtype=dtype))]


# the front end, the field that the message names, and what all workers and then worker 1 are given
DIFFERENT: list[tuple[str, str, Pick, Pick]] = [
    ("OneBitSGD", "lr", lambda: sgd(lr=0.1), lambda: sgd(lr=0.2)),
    ("OneBitSGD", "momentum", sgd, lambda: sgd(momentum=0.5)),
    ("OneBitSGD", "weight_decay", sgd, lambda: sgd(weight_decay=0.1)),
    ("OneBitSGD", "adagrad", lambda: sgd(adagrad="local"), lambda: sgd(adagrad="aggregate")),
    ("OneBitSGD", "batch_size", sgd, lambda: sgd(batch_size=32)),
    ("OneBitSGD", "error_feedback", sgd, lambda: sgd(error_feedback=False)),
    ("OneBitSGD", "code", sgd, lambda: sgd(code="rotated")),
    ("OneBitSGD", "axis", sgd, lambda: sgd(axis="input")),
    ("OneBitSGD", "bucket_mb", sgd, lambda: sgd(bucket_mb=0.001)),
    ("OneBitSGD", "double_buffer", sgd, lambda: sgd(double_buffer=True)),
    ("OneBitSGD", "start_steps", sgd, lambda: sgd(start_steps=3)),
    ("OneBitSGD", "the list of parameters", sgd, lambda: sgd(swapped())),
    ("OneBitSGD", "the list of their shapes", lambda: sgd(zeros(3)), lambda: sgd(zeros(4))),
    (
        "OneBitSGD",
        "the list of their dtypes",
        lambda: sgd(zeros(3)),
        lambda: sgd(zeros(3, torch.bfloat16)),
    ),
    ("OwnerOptimizer", "the optimiser", adamw, lambda: owner(torch.optim.RMSprop)),
    ("OwnerOptimizer", "betas", adamw, lambda: adamw(betas=(0.5, 0.9))),
    ("HessianFree", "method", newton, lambda: newton(method="bicgstab")),
    ("HessianFree", "damping", newton, lambda: newton(damping=0.5)),
    ("HessianFree", "seed", newton, lambda: newton(seed=1)),
    ("HessianFree", "gradient_code", newton, lambda: newton(gradient_code="4-bit")),
    ("HessianFree", "the list of parameters", newton, lambda: newton(swapped())),
    ("HessianFree", "the list of their shapes", lambda: newton(zeros(3)), lambda: newton(zeros(4))),
    ("DDP hook", "code", OneBitState, lambda: OneBitState(code=("sign", "4-bit"))),
    ("DDP hook", "start_steps", OneBitState, lambda: OneBitState(start_steps=5)),
    (
        "DDP hook",
        "the list of parameters",
        lambda: OneBitState(named_parameters=named()),
        lambda: OneBitState(named_parameters=swapped()),
    ),
]
SUBJECT = "workers that were given different options or parameters"


@pytest.mark.parametrize(
    ("field", "make", "other"),
    [
        pytest.param(
            *row, id=f"{front}: {row[0]}", marks=pytest.mark.support(SUBJECT, front, refused=True)
        )
        for front, *row in DIFFERENT
    ],
)
def test_every_worker_is_told_the_field(field: str, make: Pick, other: Pick) -> None:
    def work(rank: int, world: int) -> None:
        with pytest.raises(DifferentWorkersError, match=rf": {field} is not .* on worker 1"):
            (other if rank == 1 else make)()

    simulate(3, work)
    simulate(3, lambda rank, world: make())  # and alike they are taken


def codes_over_gloo(rank: int, world: int) -> str:
    """Other codes have packets of other sizes, for which gloo would end the process."""
    with pytest.raises(DifferentWorkersError) as refused:
        OneBitSGD(named(), code="4-bit" if rank else "sign")
    return str(refused.value)


def test_the_same_over_real_ranks(run_ranks: RunRanks) -> None:
    for told in run_ranks(2, codes_over_gloo):
        what = "code is not the same on all workers"
        assert told == f"OneBitSGD: {what}: 'sign' on worker 0; '4-bit' on worker 1"


def test_a_group_that_is_added_later_is_compared_too() -> None:
    def work(rank: int, world: int) -> None:
        optimizer = OneBitSGD(named())
        with pytest.raises(DifferentWorkersError, match="lr is not"):
            optimizer.add_param_group({"params": [("w", nn.Parameter(torch.zeros(3)))], "lr": rank})

    simulate(2, work)


@pytest.mark.support(
    "an optimiser made before init_process_group", "OneBitSGD", "OwnerOptimizer", refused=True
)
@pytest.mark.parametrize("make", [lambda: OneBitSGD(named()), lambda: owner(torch.optim.SGD)])
def test_a_job_of_several_workers_without_a_process_group(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(RuntimeError, match=r"WORLD_SIZE is 4, .* call torch.distributed.init"):
        make()


def made_too_early(rank: int, world: int) -> str:
    """What ``run_ranks`` has initialised is taken away for a moment."""
    group = torch.distributed.distributed_c10d._world.default_pg
    torch.distributed.distributed_c10d._world.default_pg = None
    optimizer = OneBitSGD(named())
    torch.distributed.distributed_c10d._world.default_pg = group
    with pytest.raises(RuntimeError) as refused:
        optimizer.step()
    return str(refused.value)


def test_a_process_group_that_appears_later(run_ranks: RunRanks) -> None:
    for told in run_ranks(2, made_too_early):
        assert "was made before torch.distributed.init_process_group" in told


# --- what a script changes while it trains ------------------------------------------------------


def changes_lr(optimizer: Any, model: nn.Module) -> None:
    optimizer.param_groups[0]["lr"] = 0.7


def changes_the_code(optimizer: Any, model: nn.Module) -> None:
    optimizer.param_groups[0]["code"] = "rotated"  # with packets as long as those of "sign"


def freezes(optimizer: Any, model: nn.Module) -> None:
    model[0].weight.requires_grad_(False)


def thaws(optimizer: Any, model: nn.Module) -> None:
    model[4].weight.requires_grad_(True)


LATER: dict[str, tuple[Callable[[Any, nn.Module], None], str]] = {
    "lr": (changes_lr, "lr of param group 0 is not the same on all workers: 0.1 on workers 0, 2"),
    "the code": (changes_the_code, "code of param group 0 is not the same on all workers: 'sign'"),
    "freezing": (freezes, r"frozen parameters is not the same .*'0.weight'.* on worker 1"),
    "thawing": (thaws, r"frozen parameters is not the same .*\['parameter 4'\] on workers 0, 2"),
}
WAYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "at once": ("OneBitSGD", lambda p: sgd(p, lr=0.1, bucket_mb=0.001)),
    "double-buffered": ("OneBitSGD", lambda p: sgd(p, lr=0.1, double_buffer=True)),
    "serial start": ("OneBitSGD", lambda p: sgd(p, lr=0.1, start="serial", start_steps=3)),
    "dense start": ("OneBitSGD", lambda p: sgd(p, lr=0.1, start_steps=9)),
    "AdamW": ("OwnerOptimizer", lambda p: OwnerOptimizer(torch.optim.AdamW, p, lr=0.1)),
}


@pytest.mark.parametrize("change", LATER)
@pytest.mark.parametrize(
    "way",
    [
        pytest.param(
            way,
            marks=pytest.mark.support(
                "options or frozen parameters that differ later", WAYS[way][0], refused=True
            ),
        )
        for way in WAYS
    ],
)
def test_a_change_on_one_worker_only_is_told_before_it_counts(way: str, change: str) -> None:
    alter, message = LATER[change]

    def work(rank: int, world: int, everywhere: bool) -> Tensor:
        model = perceptron(0, 20, 20, 20, 4)
        model[4].weight.requires_grad_(False)
        optimizer = WAYS[way][1](list(model.named_parameters()))
        for step in range(4):
            if step == 2 and (rank == 1 or everywhere):
                alter(optimizer, model)
            optimizer.zero_grad()
            model(batch(optimizer, step, rank, world)).square().mean().backward()
            optimizer.step()
        if getattr(optimizer, "double_buffer", False):
            optimizer.flush()
        return values([model])

    told = []

    def unlike(rank: int, world: int) -> None:
        with pytest.raises(DifferentWorkersError, match=message) as refused:
            work(rank, world, everywhere=False)
        told.append(str(refused.value))

    simulate(3, unlike)
    assert len(set(told)) == 1
    first, *others = simulate(3, lambda rank, world: work(rank, world, everywhere=True))
    assert all(torch.equal(first, other) for other in others)
