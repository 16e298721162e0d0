"""Everything an optimiser computes lies on the device of its parameters.

A device without hardware stands in for a GPU (``tests.fake_device``): a tensor of the CPU that
meets one of its tensors raises, every value that comes to the host is counted, and results are the
CPU's.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from tests.fake_device import NAME, FakeDevice
from thinwire import OneBitSGD, OwnerOptimizer
from thinwire.exchange import Fifo
from thinwire.quantize import code_names

Make = Callable[[list[tuple[str, Parameter]], str], Any]


def onebit(named: list[tuple[str, Parameter]], code: str) -> Any:
    return OneBitSGD(
        named,
        lr=0.1,
        momentum=0.5,
        weight_decay=0.1,
        adagrad="aggregate",
        code=code,
        bucket_mb=0.001,
    )


def local_adagrad(named: list[tuple[str, Parameter]], code: str) -> Any:
    return OneBitSGD(named, lr=0.1, adagrad="local", code=code, axis="input")


def double_buffered(named: list[tuple[str, Parameter]], code: str) -> Any:
    return OneBitSGD(named, lr=0.1, momentum=0.5, code=code, double_buffer=True)


def serial_start(named: list[tuple[str, Parameter]], code: str) -> Any:
    return OneBitSGD(named, lr=0.1, momentum=0.5, code=code, start="serial", start_steps=2)


def owner(named: list[tuple[str, Parameter]], code: str) -> Any:
    return OwnerOptimizer(torch.optim.SGD, named, lr=0.1, momentum=0.9, code=code)


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run where they are handed in, since a dispatch mode is one thread's."""

    def submit(self: Fifo, job: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(job())
        except BaseException as error:
            future.set_exception(error)
        return future

    monkeypatch.setattr(Fifo, "submit", submit)


def train(make: Make, code: str, device: str) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and kept tensors after four steps with given gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(40, 30), (300,)]
    start = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
    named = [(f"p{i}", Parameter(tensor)) for i, tensor in enumerate(start)]
    optimizer = make(named, code)
    for _ in range(4):
        for _, parameter in named:
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(device)
        optimizer.step()
    optimizer.flush()
    entries = optimizer.state_dict()["state"].values()
    kept = [value for entry in entries for value in entry.values() if isinstance(value, Tensor)]
    return [parameter.detach() for _, parameter in named], kept


@pytest.mark.parametrize("code", code_names())
@pytest.mark.parametrize(
    "make", [onebit, local_adagrad, double_buffered, serial_start, owner], ids=lambda m: m.__name__
)
def test_whole_steps_on_the_device_are_the_cpus(one_thread: None, make: Make, code: str) -> None:
    """And the host reads headers, and whether packets are finite, and nothing else."""
    expected = train(make, code, "cpu")
    device = FakeDevice()
    with device:
        found = train(make, code, NAME)
        for one, other in zip(found, expected, strict=True):
            assert len(one) == len(other)
            for there, here in zip(one, other, strict=True):
                assert there.device.type == NAME
                assert torch.equal(there.cpu(), here)


def test_how_often_a_step_waits_for_the_device(one_thread: None) -> None:
    """Each bucket: a header and a finite flag in either stage."""
    device = FakeDevice()
    with device:
        weight = Parameter(torch.ones(40, 30).to(NAME))
        optimizer = OneBitSGD([weight], lr=0.1)
        for _ in range(2):
            weight.grad = torch.ones(40, 30).to(NAME)
            device.reads.clear()
            optimizer.step()
        assert Counter(device.reads).total() <= 6, device.reads


def test_a_host_tensor_in_the_way_would_be_found(one_thread: None) -> None:
    with (
        FakeDevice(),
        pytest.raises(RuntimeError, match="tensors of the CPU and of the device meet"),
    ):
        torch.ones(3).to(NAME) + torch.ones(3)


def test_buffers_are_float32_whatever_the_ambient_dtype() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        weight = nn.Parameter(torch.ones(300))
        optimizer = OneBitSGD([weight], lr=0.1, momentum=0.5, adagrad="local")
        weight.sum().backward()
        optimizer.step()
        kept = optimizer.state_dict()["state"][0]
    finally:
        torch.set_default_dtype(before)
    tensors = [value for value in kept.values() if isinstance(value, Tensor)]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
