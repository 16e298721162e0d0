"""Codes as objects: accepted by every front end, stored by name, found again when loading."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thinwire import OneBitSGD, OneBitState, OwnerOptimizer, reshard, simulate
from thinwire.quantize import CodeDefaults, Columns, SignCode, UniformCode, stage_codes


class Halves(CodeDefaults):
    """Every value as a float16: a code that nobody registered."""

    name = "halves"

    def payload_bytes(self, columns: Columns) -> int:
        return 2 * columns.values + 2 * (columns.values % 2)

    def quantise(self, values: Tensor, columns: Columns, payload: Tensor) -> None:
        payload.zero_()
        payload[: 2 * columns.values].copy_(values.half().view(torch.uint8))

    def reconstruct(self, payload: Tensor, columns: Columns) -> Tensor:
        return payload[: 2 * columns.values].view(torch.float16)


def train(rank: int, world: int, code: Any, kind: str) -> tuple[Tensor, dict[str, Any], str]:
    weight = nn.Parameter(torch.ones(40, 30))
    if kind == "OneBitSGD":
        optimizer: Any = OneBitSGD([weight], lr=0.1, code=code)
    else:
        optimizer = OwnerOptimizer(torch.optim.AdamW, [weight], lr=0.1, code=code)
    steps(optimizer, weight, rank, 3)
    return weight.detach().clone(), optimizer.state_dict(), str(optimizer)


def steps(optimizer: Any, weight: nn.Parameter, rank: int, number: int) -> None:
    generator = torch.Generator().manual_seed(rank)
    for _ in range(number):
        optimizer.zero_grad()
        (weight * torch.randn(40, 30, generator=generator)).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["OneBitSGD", "OwnerOptimizer"])
@pytest.mark.parametrize(
    ("objects", "names"),
    [
        (UniformCode(4), "4-bit"),
        ((SignCode(), UniformCode(8)), ("sign", "8-bit")),
        ((SignCode(), "8-bit"), ("sign", "8-bit")),
    ],
)
def test_objects_do_what_their_names_do(kind: str, objects: Any, names: Any) -> None:
    for one, other in zip(
        simulate(2, train, objects, kind), simulate(2, train, names, kind), strict=True
    ):
        assert torch.equal(one[0], other[0])
        assert one[1]["param_groups"][0]["code"] == names


def test_a_code_of_ones_own_is_stored_by_name_and_taken_from_the_optimiser() -> None:
    states = [state for _, state, _ in simulate(2, train, Halves(), "OneBitSGD")]
    assert states[0]["param_groups"][0]["code"] == "halves"
    weight = nn.Parameter(torch.ones(40, 30))
    optimizer = OneBitSGD([weight], lr=0.5, code=Halves())
    optimizer.load_state_dict(reshard(states, 0, 1))
    assert isinstance(optimizer.param_groups[0]["code"], Halves)
    assert optimizer.param_groups[0]["lr"] == 0.1
    steps(optimizer, weight, 0, 1)
    stranger = OneBitSGD([nn.Parameter(torch.ones(40, 30))], lr=0.1)
    with pytest.raises(ValueError, match=r"param group 0: code: .* got 'halves'; register the"):
        stranger.load_state_dict(reshard(states, 0, 1))


def test_a_loaded_code_is_what_travels() -> None:
    """An optimiser that was made with the default goes on as the stored one did."""

    def go_on(rank: int, world: int) -> tuple[Tensor, Tensor]:
        straight, resumed = nn.Parameter(torch.ones(40, 30)), nn.Parameter(torch.ones(40, 30))
        one = OneBitSGD([straight], lr=0.1, code="4-bit")
        steps(one, straight, rank, 2)
        with torch.no_grad():
            resumed.copy_(straight)
        other = OneBitSGD([resumed], lr=0.1)
        other.load_state_dict(one.state_dict())
        steps(one, straight, rank, 2)
        steps(other, resumed, rank, 2)
        return straight.detach(), resumed.detach()

    for straight, resumed in simulate(2, go_on):
        assert torch.equal(straight, resumed)


def test_the_hook_takes_objects() -> None:
    named = [("w", nn.Parameter(torch.ones(3)))]
    state = OneBitState(code=Halves(), overrides={"w": UniformCode(8)}, named_parameters=named)
    assert state._codes.name == "halves"
    assert stage_codes(Halves()).gradients.name == "halves"


def test_what_is_no_code_is_refused() -> None:
    with pytest.raises(TypeError, match="expected an object with a method payload_bytes"):
        OneBitSGD([nn.Parameter(torch.ones(3))], code=4)  # type: ignore[arg-type]
