"""Everything an optimiser computes lies on the device of its parameters.

torch's device "meta" stands in for a GPU: its tensors have a shape and no values. An operation that
mixes devices raises, and so does whatever asks for a value on the host.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange import Ledger, ParameterBucket, Wire
from thinwire.exchange.transport import Alone
from thinwire.optim import post_process
from thinwire.optim.group_bucket import GroupBucket
from thinwire.optim.onebit_sgd import OneBitSGD
from thinwire.quantize import code_names, stage_codes

GROUP: dict[str, Any] = {"lr": 0.1, "eps": 1e-10, "adagrad": "local"}


def bucket(code: str) -> GroupBucket:
    parameters = [Parameter(torch.empty(shape, device="meta")) for shape in ((40, 30), (300,))]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    named: list[tuple[str, Tensor]] = [(f"p{i}", p) for i, p in enumerate(parameters)]
    wire = Wire(Alone(), Ledger())
    exchange = ParameterBucket(named, stage_codes(code), wire, axis="output", error_feedback=True)
    return GroupBucket(GROUP, exchange, ["momentum"])


@pytest.mark.parametrize("code", code_names())
def test_arithmetic_stays_on_the_device(code: str) -> None:
    """All of a step but what is read of packets: headers, and whether they are finite."""
    with torch.no_grad():
        own = bucket(code)
        stages, codes = own.exchange.stages, own.exchange.codes
        own.collect_gradients()
        (packet,) = stages.new_packets(codes.gradients)
        run, columns = stages.worker, stages.stripe.columns
        codes.gradients.encode(run.values, 8.0, run.residual, columns, run.values, packet[16:])
        run.commit()
        codes.gradients.sum([packet[16:]], columns, stages.owner.values)
        values = own.parameter_values(0, own.space.values)
        state: dict[str, Tensor] = {}
        update = stages.owner.values.div_(8.0)
        post_process(
            *(update, values, state),
            lr=0.1,
            momentum=0.9,
            weight_decay=0.1,
            adagrad="aggregate",
        )
        codes.updates.decode(packet[16:], columns, own.scratch, accumulate=False, divisor=2.0)
        own.exchange.subtract(own.scratch)
        own.store(own.receive())
        found = [packet, values, update, own.scratch, own.receive(), *state.values()]
        found += [
            tensor
            for entry in own.exchange.state()
            for tensor in entry.values()
            if isinstance(tensor, Tensor)
        ]
        assert {tensor.device.type for tensor in found} == {"meta"}


def test_what_the_host_asks_for_raises_there() -> None:
    """So the test above can fail."""
    tensor = torch.empty(3, device="meta")
    with pytest.raises(RuntimeError, match="meta"):
        float(tensor.sum())


def test_an_optimiser_of_ambient_bfloat16_keeps_its_buffers_in_float32() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        weight = Parameter(torch.ones(300))
        optimizer = OneBitSGD([weight], lr=0.1, momentum=0.5, adagrad="local")
        weight.sum().backward()
        optimizer.step()
        kept = optimizer.state_dict()["state"][0]
    finally:
        torch.set_default_dtype(before)
    tensors = [value for value in kept.values() if isinstance(value, Tensor)]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
