"""Mistakes of a new user: each gives one line that says what was expected and what to do."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thinwire
from tests.optim.whole_tensors import GlobalClip

AdamW = torch.optim.AdamW
NAN = float("nan")
INFINITE = float("inf")


def model() -> nn.Linear:
    return nn.Linear(4, 3)


def named() -> Iterator[tuple[str, nn.Parameter]]:
    return model().named_parameters()


def sgd(params: Any = None, **options: Any) -> thinwire.OneBitSGD:
    return thinwire.OneBitSGD(named() if params is None else params, **options)


def owner(first: Any = AdamW, params: Any = None, **options: Any) -> thinwire.OwnerOptimizer:
    return thinwire.OwnerOptimizer(first, named() if params is None else params, **options)


def newton(objective: Any) -> Any:
    return thinwire.HessianFree(model().parameters()).step(objective)


def used_up() -> Iterator[tuple[str, nn.Parameter]]:
    given = named()
    list(given)
    return given


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(5, 4), torch.zeros(5, 3)


class Wrapped(nn.Module):
    """A model that returns its outputs in a dict or a tuple, as many libraries' do."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind, self.inner = kind, model()

    def forward(self, inputs: torch.Tensor) -> Any:
        outputs = self.inner(inputs)
        return {"logits": outputs} if self.kind is dict else (outputs, None)


def of_closure(net: nn.Module) -> Callable[[], Any]:
    inputs, targets = samples()
    return lambda: (F.mse_loss(net(inputs)[0], targets), net(inputs))


OPTIMISERS = ("OneBitSGD", "OwnerOptimizer")
# what the user does, the front ends, how, the error, and what the line says
MISTAKES: list[tuple[str, tuple[str, ...], Callable[[], Any], type[Exception], str]] = [
    (
        "lr as text",
        ("OneBitSGD",),
        lambda: sgd(lr="0.1"),
        TypeError,
        "lr: expected a number, got '0.1'",
    ),
    ("lr=True", ("OneBitSGD",), lambda: sgd(lr=True), TypeError, "lr: expected a number, got True"),
    ("lr=None", ("OneBitSGD",), lambda: sgd(lr=None), TypeError, "lr: expected a number, got None"),
    (
        "lr that is no finite number",
        ("OneBitSGD",),
        lambda: sgd(lr=NAN),
        ValueError,
        "lr: expected a",
    ),
    (
        "lr that is no finite number",
        ("OneBitSGD",),
        lambda: sgd(lr=INFINITE),
        ValueError,
        "lr: expected a finite number, got inf",
    ),
    ("a negative lr", ("OneBitSGD",), lambda: sgd(lr=-1), ValueError, "lr: expected >= 0, got -1"),
    (
        "momentum as text",
        ("OneBitSGD",),
        lambda: sgd(momentum="0.9"),
        TypeError,
        "momentum: expected a number, got '0.9'",
    ),
    (
        "batch_size as text",
        ("OneBitSGD",),
        lambda: sgd(batch_size="32"),
        TypeError,
        "batch_size: expected a number, got '32'",
    ),
    (
        "lr as text",
        ("OwnerOptimizer",),
        lambda: owner(lr="0.1"),
        TypeError,
        "lr: expected a number",
    ),
    (
        "lr that is no finite number",
        ("OwnerOptimizer",),
        lambda: owner(lr=INFINITE),
        ValueError,
        "lr: expected a finite number, got inf",
    ),
    (
        "an optimiser in place of its class",
        ("OwnerOptimizer",),
        lambda: owner(AdamW(model().parameters())),
        TypeError,
        "optimizer_class: expected a class such as torch.optim.AdamW, got AdamW: write",
    ),
    (
        "arguments in the wrong order",
        ("OwnerOptimizer",),
        lambda: owner(named(), AdamW),
        TypeError,
        "optimizer_class: expected a class such as torch.optim.AdamW, got generator",
    ),
    (
        "an option that the optimiser does not have",
        OPTIMISERS,
        lambda: owner(nesterov=True),
        TypeError,
        "unexpected keyword argument 'nesterov'",
    ),
    (
        "an option that the optimiser does not have",
        OPTIMISERS,
        lambda: sgd(nesterov=True),
        TypeError,
        "unexpected keyword argument 'nesterov'",
    ),
    (
        "an optimiser that couples all parameters (global norm, estimated rate)",
        ("OwnerOptimizer",),
        lambda: owner(GlobalClip),
        ValueError,
        "GlobalClip couples all parameters",
    ),
    (
        "the model in place of its parameters",
        OPTIMISERS,
        lambda: sgd(model()),
        TypeError,
        "params: expected model.named_parameters(), got the model itself (Linear)",
    ),
    (
        "the model in place of its parameters",
        OPTIMISERS,
        lambda: owner(AdamW, model()),
        TypeError,
        "params: expected model.named_parameters(), got the model itself (Linear)",
    ),
    (
        "the model in place of its parameters",
        ("HessianFree",),
        lambda: thinwire.HessianFree(model()),
        TypeError,
        "params: expected model.named_parameters(), got the model itself (Linear)",
    ),
    ("no parameters", OPTIMISERS, lambda: sgd([]), ValueError, "empty parameter list"),
    (
        "a generator that is used up",
        OPTIMISERS,
        lambda: sgd(used_up()),
        ValueError,
        "empty parameter list",
    ),
    (
        "timeout=60",
        (*OPTIMISERS, "DDP hook"),
        lambda: sgd(timeout=60),
        TypeError,
        "timeout: expected a datetime.timedelta, got 60: write timedelta(seconds=60)",
    ),
    (
        "timeout=60",
        (*OPTIMISERS, "DDP hook"),
        lambda: thinwire.OneBitState(timeout=60),
        TypeError,
        "timeout: expected a datetime.timedelta, got 60: write timedelta(seconds=60)",
    ),
    (
        "a code that there is not",
        (*OPTIMISERS, "DDP hook"),
        lambda: sgd(code="3-bit"),
        ValueError,
        "code: expected one of sign, float32",
    ),
    (
        "a code that there is not",
        (*OPTIMISERS, "DDP hook"),
        lambda: thinwire.OneBitState(code="3-bit"),
        ValueError,
        "code: expected one of sign, float32",
    ),
    (
        "bits in place of a code",
        ("DDP hook",),
        lambda: thinwire.OneBitState(code=4),
        TypeError,
        "code: expected an object with a method payload_bytes, got 4",
    ),
    (
        "overrides of unknown parameters",
        ("DDP hook",),
        lambda: thinwire.OneBitState(overrides={"embed": "float32"}),
        ValueError,
        "overrides: ['embed'] are not among named_parameters (none were given)",
    ),
    (
        "a hook registered without a state",
        ("DDP hook",),
        lambda: thinwire.onebit_hook(None, None),
        TypeError,
        "state: expected a thinwire.OneBitState, got NoneType: write thinwire.compress(ddp_model)",
    ),
    (
        "a serial start",
        ("DDP hook",),
        lambda: thinwire.OneBitState(start="serial"),
        ValueError,
        "start: expected a code, got 'serial': DistributedDataParallel trains on every worker",
    ),
    (
        "thinwire.compress of a bare model",
        ("DDP hook", "FSDP2"),
        lambda: thinwire.compress(model()),
        TypeError,
        "model: expected DistributedDataParallel(model), or a model after fully_shard(model)",
    ),
    (
        "a module that was not sharded",
        ("FSDP2",),
        lambda: thinwire.OneBitReduceScatter(model()),
        TypeError,
        "module: call fully_shard(module) first",
    ),
    (
        "a state of something else",
        OPTIMISERS,
        lambda: sgd().load_state_dict(thinwire.OneBitState(named_parameters=named()).state_dict()),
        ValueError,
        "state_dict: expected an optimiser's, which has param_groups",
    ),
    (
        "a state of something else",
        OPTIMISERS,
        lambda: sgd().load_state_dict(torch.optim.SGD(model().parameters()).state_dict()),
        ValueError,
        "state_dict: it was not made by thinwire",
    ),
    (
        "a method that there is not",
        ("HessianFree",),
        lambda: thinwire.HessianFree(model().parameters(), method="newton"),
        ValueError,
        "method: expected one of gauss-newton, bicgstab, hybrid, cg, got 'newton'",
    ),
    (
        "a loss in place of an objective",
        ("HessianFree",),
        lambda: newton(torch.zeros(())),
        TypeError,
        "objective: expected a thinwire.Objective, or a closure that returns (loss, outputs)",
    ),
    (
        "an objective of another model",
        ("HessianFree",),
        lambda: newton(thinwire.Objective(model(), F.mse_loss, samples())),
        ValueError,
        "parameters: one of shape [3, 4] is not the model's",
    ),
    (
        "a model that returns a dict or a tuple",
        ("HessianFree",),
        lambda: thinwire.Objective(Wrapped(dict), F.mse_loss, samples()),
        TypeError,
        "model: expected outputs that are one tensor, got dict: pick the tensor that the loss",
    ),
    (
        "a model that returns a dict or a tuple",
        ("HessianFree",),
        lambda: newton(of_closure(Wrapped(tuple))),
        TypeError,
        "closure: expected outputs that are one tensor, got tuple: pick the tensor that the loss",
    ),
    (
        "parameters on the meta device",
        (*OPTIMISERS, "DDP hook", "HessianFree"),
        lambda: sgd(nn.Linear(4, 3, device="meta").named_parameters()),
        ValueError,
        "weight: expected a parameter that has values, got one on the meta device",
    ),
    (
        "parameters on the meta device",
        (*OPTIMISERS, "DDP hook", "HessianFree"),
        lambda: thinwire.OneBitState(
            named_parameters=nn.Linear(4, 3, device="meta").named_parameters()
        ),
        ValueError,
        "weight: expected a parameter that has values, got one on the meta device",
    ),
    (
        "a DataLoader in place of data",
        ("HessianFree",),
        lambda: thinwire.Objective(model(), F.mse_loss, torch.utils.data.DataLoader([1, 2])),
        TypeError,
        "data: expected (inputs, targets) or a map-style data set of such pairs, got DataLoader",
    ),
]


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        pytest.param(
            make,
            error,
            said,
            id=f"{what} {number}",
            marks=pytest.mark.support(what, *fronts, refused=True),
        )
        for number, (what, fronts, make, error, said) in enumerate(MISTAKES)
    ],
)
def test_a_mistake_is_told_in_one_line(
    make: Callable[[], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as told:
        make()
    assert said in str(told.value)
    assert "\n" not in str(told.value)
