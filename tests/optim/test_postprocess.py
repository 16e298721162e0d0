"""Post-processing on a flat stripe against torch's own optimisers."""

import pytest
import torch
from torch import Tensor

from thinwire.optim import post_process
from thinwire.optim.postprocess import AdaGrad, LocalAdaGrad, State

STEPS = 6


def gradients(seed: int = 0) -> list[Tensor]:
    return list(torch.randn(STEPS, 40, generator=torch.Generator().manual_seed(seed)))


def run_torch(optimizer_class: type[torch.optim.Optimizer], **options: float) -> Tensor:
    parameter = torch.nn.Parameter(torch.linspace(-1, 1, 40))
    optimizer = optimizer_class([parameter], **options)  # type: ignore[call-arg]
    for gradient in gradients():
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def run_own(**options: float | str) -> Tensor:
    parameter = torch.linspace(-1, 1, 40)
    state: State = {}
    for gradient in gradients():
        update = gradient.clone()
        post_process(update, parameter, state, **options)  # type: ignore[arg-type]
        parameter -= update
    return parameter


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.5, "weight_decay": 0.1}])
def test_equals_torch_sgd(options: dict[str, float]) -> None:
    torch.testing.assert_close(
        run_own(lr=0.1, **options), run_torch(torch.optim.SGD, lr=0.1, **options)
    )


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("placement", ["aggregate", "smoothed"])
def test_equals_torch_adagrad_without_momentum(placement: AdaGrad, weight_decay: float) -> None:
    own = run_own(lr=0.1, adagrad=placement, weight_decay=weight_decay)
    expected = run_torch(torch.optim.Adagrad, lr=0.1, weight_decay=weight_decay)
    torch.testing.assert_close(own, expected)


def test_placements_differ_in_the_order_of_momentum_and_division() -> None:
    first, second = gradients()[:2]
    aggregate, smoothed = first.clone(), first.clone()
    state_a: State = {}
    state_s: State = {}
    post_process(aggregate, None, state_a, lr=1.0, momentum=0.5, adagrad="aggregate")
    post_process(smoothed, None, state_s, lr=1.0, momentum=0.5, adagrad="smoothed")
    aggregate, smoothed = second.clone(), second.clone()
    post_process(aggregate, None, state_a, lr=1.0, momentum=0.5, adagrad="aggregate")
    post_process(smoothed, None, state_s, lr=1.0, momentum=0.5, adagrad="smoothed")
    divisor = (first**2 + second**2).sqrt()
    torch.testing.assert_close(aggregate, 0.5 * first.sign() + second / divisor)
    velocity = 0.5 * first + second
    torch.testing.assert_close(smoothed, velocity / (first**2 + velocity**2).sqrt())


def test_local_adagrad_changes_nothing_until_commit() -> None:
    first, second = gradients()[:2]
    local = LocalAdaGrad(40)
    values = first.clone()
    local.normalise(values, 0.0)
    torch.testing.assert_close(values, first.sign())
    local.commit()
    abandoned = torch.full((40,), torch.nan)
    local.normalise(abandoned, 0.0)
    values = second.clone()
    local.normalise(values, 0.0)
    torch.testing.assert_close(values, second / (first**2 + second**2).sqrt())


def test_weight_decay_needs_parameters() -> None:
    with pytest.raises(ValueError, match="weight_decay"):
        post_process(torch.ones(3), None, {}, lr=1.0, weight_decay=0.1)
