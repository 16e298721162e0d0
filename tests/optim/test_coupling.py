"""What an optimiser couples is found out before it is trusted."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.optim import whole_tensors as kinds
from tests.optim.test_live_options import ELEVEN
from thinwire import OwnerOptimizer, simulate
from thinwire.optim.coupling import ownership

WHOLE = {
    "Muon": (torch.optim.Muon, {}),
    "Adafactor": (torch.optim.Adafactor, {}),
    "LAMB": (kinds.Lamb, {}),
    "LARS": (kinds.Lars, {}),
    "Shampoo": (kinds.Shampoo, {}),
    "large tensors only": (kinds.OnlyLarge, {}),
    "an option in an attribute": (kinds.InAttribute, {"normalised": True}),
    "Adafactor before a warm-up": (torch.optim.Adafactor, {"lr": 0.0}),
    "a rate in a tensor": (torch.optim.Adafactor, {"lr": torch.tensor(0.0)}),
}
ALONE = {
    **ELEVEN,
    "no clipping": (kinds.GlobalClip, {"most": 0.0}),
    "the option in an attribute is off": (kinds.InAttribute, {}),
    "foreach": (torch.optim.AdamW, {"foreach": True}),
    "maximize": (torch.optim.SGD, {"lr": 1e-8, "maximize": True}),
}
ELSEWHERE = r"keeps what it learns outside state\[parameter\]"
SUBJECT = "an optimiser that couples all parameters (global norm, estimated rate)"
REFUSED = {
    "global clipping": (kinds.GlobalClip, "GlobalClip couples all parameters"),
    "an estimated rate": (kinds.EstimatedRate, "EstimatedRate couples all parameters"),
    "steps in the param group": (kinds.CountsInGroup, f"CountsInGroup {ELSEWHERE}"),
    "lists": (
        kinds.KeepsLists,
        "KeepsLists .* expected tensors and numbers .* 'norms' of type list",
    ),
    "LBFGS": (torch.optim.LBFGS, "LBFGS cannot run at the owner"),
    "sparse": (torch.optim.SparseAdam, "SparseAdam cannot run at the owner"),
}


@pytest.mark.parametrize("case", ALONE)
def test_what_treats_every_value_alone(case: str) -> None:
    kind, options = ALONE[case]
    assert ownership(kind, options) == "runs of values"


@pytest.mark.parametrize("case", WHOLE)
def test_what_looks_at_whole_tensors(case: str) -> None:
    kind, options = WHOLE[case]
    assert ownership(kind, options) == "whole parameters"


@pytest.mark.support(SUBJECT, "OwnerOptimizer", refused=True)
@pytest.mark.parametrize("case", REFUSED)
def test_what_no_owner_can_run_is_refused_by_name(case: str) -> None:
    kind, said = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=said):
        OwnerOptimizer(kind, kinds.network().named_parameters())


def test_trying_leaves_torchs_generator_alone() -> None:
    class Noisy(kinds.Textbook):
        def update(self, p: Any, g: Any, state: Any, group: Any) -> None:
            p.sub_(0.1 * torch.randn_like(g))

    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="Noisy couples all parameters"):
        ownership(Noisy, {})
    assert torch.equal(before, torch.get_rng_state())


def test_what_was_found_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "thinwire"):
        optimizer = kinds.muon_and_adamw(kinds.network())
    assert [record.message for record in caplog.records if "owns" in record.message] == [
        "Muon looks at whole tensors: every worker owns whole parameters",
        "AdamW looks at every value alone: every worker owns runs of values",
    ]
    found = [optimizer.ownership(group) for group in optimizer.param_groups]
    assert found == ["whole parameters", "runs of values"]


def test_options_that_couple_more_than_before_are_refused() -> None:
    """A script may change options in every step."""
    weight = nn.Parameter(torch.ones(4, 3))
    optimizer = OwnerOptimizer(kinds.GlobalClip, [weight], lr=0.1, most=0.0)
    weight.sum().backward()
    optimizer.step()
    optimizer.param_groups[0]["most"] = 1.0
    optimizer.zero_grad()
    weight.sum().backward()
    with pytest.raises(ValueError, match="GlobalClip couples all parameters"):
        optimizer.step()


def test_workers_that_own_otherwise_are_told() -> None:
    """A class of the same name that is another one, as after an update on one machine."""

    def named(normalised: bool) -> type[torch.optim.Optimizer]:
        class Same(kinds.Textbook):
            def update(self, p: Any, g: Any, state: Any, group: Any) -> None:
                p.sub_(0.1 * g / (g.norm() if normalised else 1))

        return Same

    def work(rank: int, world: int) -> None:
        with pytest.raises(
            ValueError, match=r": ownership is not the same on all workers: 'runs of"
        ):
            OwnerOptimizer(named(rank == 1), kinds.network().named_parameters())

    simulate(2, work)
