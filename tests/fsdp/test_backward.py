"""All exchanges of one backward are kept or dropped together."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from thinwire.exchange import Bucket, Ledger, Wire
from thinwire.exchange.transport import Alone
from thinwire.fsdp.backward import Backward, _running, current_backward
from thinwire.quantize import FlatSpace, Float32Code, SignCode, StageCodes


class During(torch.autograd.Function):
    """Calls something when backward gets here."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, call: Callable[[], None]) -> Tensor:
        ctx.call = call
        return inputs.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        ctx.call()
        return gradient, None


def bucket() -> Bucket:
    """Of one worker, with one parameter of four values."""
    codes = StageCodes(SignCode(), Float32Code())
    layout = FlatSpace([torch.Size([4])])
    return Bucket(["w"], layout, codes, 0, 1, error_feedback=True, device=torch.device("cpu"))


def residual(of: Bucket) -> Tensor:
    return of.stages.worker.residual


def exchange(of: Bucket, backward: Backward, gradient: Tensor) -> Tensor:
    """What one call of the reduce-scatter does; returns what is released."""
    backward.begin(of)
    of.scratch.copy_(gradient)
    backward.note(of.reduce(Wire(Alone(), Ledger()), 1.0))
    return of.sum.clone()


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=5),
            st.booleans(),
        ),
        max_size=5,
    )
)
def test_kept_or_dropped_as_a_whole(
    backwards: list[tuple[list[tuple[int, bool]], bool]],
) -> None:
    """Any modules in any order, even twice; what finite backwards released is all that counts.

    Some of them are taken back afterwards.
    """
    generator = torch.Generator().manual_seed(0)
    modules = [bucket() for _ in range(3)]
    books = torch.zeros(3, 4, dtype=torch.float64)  # computed - released
    for calls, discarded in backwards:
        backward, step = Backward(), torch.zeros_like(books)
        before = [residual(module).clone() for module in modules]
        for module, finite in calls:
            gradient = torch.randn(4, generator=generator)
            if not finite:
                gradient[1] = torch.nan
            released = exchange(modules[module], backward, gradient)
            step[module] += gradient.double() - released.double()
        backward.end()
        if discarded:
            backward.drop()
        backward.keep()
        if all(finite for _, finite in calls) and not discarded:
            books += step
        else:
            assert all(torch.equal(residual(m), b) for m, b in zip(modules, before, strict=True))
    carried = torch.stack([residual(module).double() for module in modules])
    torch.testing.assert_close(carried, books, rtol=1e-5, atol=1e-5)


def test_autograd_ends_it() -> None:
    module, seen = bucket(), []

    def call() -> None:
        backward = current_backward()
        assert backward is current_backward(), "one for each backward"
        seen.append(backward)
        exchange(module, backward, torch.tensor([1.0, 2.0, -1.0, 4.0]))
        assert not residual(module).any()

    inputs = torch.ones(1, requires_grad=True)
    During.apply(inputs, call).backward()
    assert current_backward() is None
    seen.pop().keep()
    assert residual(module).any()
    assert not _running


def test_a_backward_that_fails_keeps_nothing() -> None:
    module = bucket()

    seen = []

    def call() -> None:
        seen.append(current_backward())
        exchange(module, seen[-1], torch.tensor([1.0, 2.0, -1.0, 4.0]))

    def fail() -> None:
        raise RuntimeError("out of memory")

    inputs = torch.ones(1, requires_grad=True)
    with pytest.raises(RuntimeError, match="out of memory"):
        During.apply(During.apply(inputs, fail), call).backward()
    seen.pop().keep()
    assert not residual(module).any()
    assert not _running
    During.apply(inputs, call).backward()
    seen.pop().keep()
    assert residual(module).any(), "the next backward is kept, once"
