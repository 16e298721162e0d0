"""One set of options in every front end: the same names, defaults and errors."""

import inspect
import math
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn

from thinwire import (
    ExchangeConfig,
    OneBitReduceScatter,
    OneBitSGD,
    OneBitState,
    OwnerOptimizer,
    simulate,
)
from thinwire.exchange.former import code_of_bits

# What a front end leaves out, since something else decides it there.
LEFT_OUT: dict[Any, set[str]] = {
    OneBitSGD: set(),
    OwnerOptimizer: set(),
    OneBitState: {"bucket_mb"},  # DDP's bucket_cap_mb
    # FSDP2 cuts rows, calls its reduce-scatter itself, and has one stage.
    OneBitReduceScatter: {
        *("axis", "start", "start_samples", "start_steps", "bucket_mb", "timeout", "transport"),
    },
}


# What a front end has by default in place of the usual, since it knows less of the optimiser.
OTHERWISE: dict[Any, dict[str, Any]] = {
    OneBitState: {"code": "4-bit"},
    OneBitReduceScatter: {"code": "4-bit"},
}


@pytest.mark.parametrize("front_end", LEFT_OUT, ids=lambda kind: kind.__name__)
def test_signatures_show_the_options_and_their_defaults(front_end: Any) -> None:
    shown = inspect.signature(front_end).parameters
    for option in fields(ExchangeConfig):
        if option.name in LEFT_OUT[front_end]:
            assert option.name not in shown
        else:
            usual = OTHERWISE.get(front_end, {}).get(option.name, option.default)
            assert shown[option.name].default == usual, option.name
    hidden = [p for p in shown.values() if p.kind == inspect.Parameter.VAR_KEYWORD]
    # The options of an owner's optimiser are that optimiser's.
    assert len(hidden) == (front_end is OwnerOptimizer)


def weight() -> nn.Parameter:
    return nn.Parameter(torch.ones(3))


def test_former_names_work_with_a_warning_that_says_the_new_ones() -> None:
    with pytest.warns(DeprecationWarning, match=r"bits=4 is a former name.*write code='4-bit'"):
        optimizer = OneBitSGD([weight()], bits=4)
    assert optimizer.param_groups[0]["code"] == "4-bit"
    new = r"cold_start=9 .* write start='serial', start_samples=9"
    with pytest.warns(DeprecationWarning, match=new):
        optimizer = OneBitSGD([weight()], cold_start=9)
    assert optimizer.phase == "serial"
    with pytest.warns(DeprecationWarning, match=r"write start='float32', start_samples=9"):
        owner = OwnerOptimizer(
            torch.optim.SGD, [weight()], lr=0.1, cold_start=9, cold_start_mode="dense"
        )
    assert owner.phase == "dense"
    with pytest.warns(DeprecationWarning, match=r"write start='float32', start_steps=9"):
        OneBitState(cold_start=9)
    with pytest.raises(ValueError, match="cold_start_mode: expected serial or dense, got 'warm'"):
        OneBitSGD([weight()], cold_start=9, cold_start_mode="warm")


def test_a_param_group_may_still_say_bits() -> None:
    optimizer = OneBitSGD([{"params": [weight()], "bits": (1, 4)}])
    assert optimizer.param_groups[0]["code"] == ("sign", "4-bit")
    assert "bits" not in optimizer.param_groups[0]


def test_bits_that_never_were_are_refused() -> None:
    with pytest.raises(ValueError, match="bits: expected 1, 2, 4 or 8, or two of them, got 3"):
        code_of_bits("sign", 3)
    with pytest.raises(ValueError, match="bits: 4 goes with code sign or rotated, not 'float32'"):
        code_of_bits("float32", 4)


def test_the_start_ends_by_samples_or_by_steps() -> None:
    by_samples = ExchangeConfig(start_samples=10)
    assert [by_samples.in_start(3, n) for n in (0, 9.5, 10)] == [True, True, False]
    by_steps = ExchangeConfig(start_steps=2)
    assert [by_steps.in_start(n, 0) for n in (0, 1, 2)] == [True, True, False]
    assert not ExchangeConfig().in_start(0, 0)


def test_a_start_of_a_few_bits_travels_by_its_code() -> None:
    """Two steps at 4 bits, then one bit: what the ledger counts tells the codes apart."""

    def train(rank: int, workers: int) -> list[int]:
        one = nn.Parameter(torch.zeros(4096))
        optimizer = OneBitSGD([one], lr=0.1, start="4-bit", start_steps=2)
        generator = torch.Generator().manual_seed(rank)
        sent, before = [], 0
        for _ in range(4):
            one.grad = None
            (one * torch.randn(4096, generator=generator)).sum().backward()
            optimizer.step()
            total = optimizer.ledger.total("gradients", "updates").bytes
            sent.append(total - before)
            before = total
        return sent

    for sent in simulate(2, train):
        assert sent[0] == sent[1]
        assert sent[2] == sent[3]
        assert 3.5 < sent[0] / sent[2] < 4.5


def test_the_hook_has_no_serial_start() -> None:
    with pytest.raises(ValueError, match="start: expected a code, got 'serial'"):
        OneBitState(start="serial", start_steps=5)


@pytest.mark.parametrize("part", [-0.1, 1.5, math.nan, "all"])
def test_a_part_of_the_error_is_from_0_to_1(part: Any) -> None:
    with pytest.raises(ValueError, match=r"error_feedback: expected True, False or a part"):
        ExchangeConfig(error_feedback=part)
