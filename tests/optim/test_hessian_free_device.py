"""Hessian-free on a device: vectors stay there, few numbers are read, results are the CPU's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.fake_device import NAME, Away, FakeDevice
from thinwire import HessianFree, Objective

METHODS = ("gauss-newton", "bicgstab", "hybrid", "cg")


def problem():
    torch.manual_seed(0)
    inputs, targets = torch.randn(100, 6), torch.randint(4, (100,))
    return nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 4)), inputs, targets


def train(device, method, preconditioner, curvature, make):
    """(losses, reports, parameters) after four steps, and what each brought to the host."""
    model, inputs, targets = problem()
    model = model.to(device)
    options = {"method": method, "preconditioner": preconditioner, "curvature": curvature}
    optimizer = HessianFree(model.parameters(), curvature_batch=64, **options)
    what = make(model, inputs.to(device), targets.to(device))
    losses, reports = [], []
    for _ in range(4):
        losses.append(optimizer.step(what))
        reports.append(optimizer.last_step)
    return losses, reports, torch.cat([p.detach().reshape(-1) for p in model.parameters()]).cpu()


def objective(model, inputs, targets):
    return Objective(model, F.cross_entropy, (inputs, targets), chunk=30)


def closure(model, inputs, targets):
    def loss():
        outputs = model(inputs)
        return F.cross_entropy(outputs, targets), outputs

    return loss


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("preconditioner", "curvature", "make"),
    [
        ("kronecker", "replicated", objective),
        ("diagonal", "sharded", objective),
        ("none", "replicated", closure),
    ],
)
def test_vectors_stay_on_the_device_and_results_are_the_same(
    method, preconditioner, curvature, make
):
    expected = train("cpu", method, preconditioner, curvature, make)
    with FakeDevice():
        losses, reports, parameters = train(NAME, method, preconditioner, curvature, make)
    assert (losses, reports) == expected[:2]
    assert torch.equal(parameters, expected[2])


def test_samples_of_the_host_follow_the_model():
    model, inputs, targets = problem()
    with FakeDevice():
        made = Objective(model.to(NAME), F.cross_entropy, (inputs, targets))
        rows = made.rows(torch.tensor([3, 5]))
        assert [type(part) for part in rows] == [Away, Away]
        HessianFree(model.parameters(), curvature_batch=64).step(made)


@pytest.mark.parametrize("chunk", [30, 100])
def test_the_host_reads_each_product_once_and_a_few_numbers_beside(chunk):
    with FakeDevice() as device:
        model, inputs, targets = problem()
        model = model.to(NAME)
        made = Objective(model, F.cross_entropy, (inputs.to(NAME), targets.to(NAME)), chunk=chunk)
        optimizer = HessianFree(model.parameters(), curvature_batch=64)
        optimizer.step(made)
        device.reads.clear()
        optimizer.step(made)
    last = optimizer.last_step
    assert (last.alpha, last.trials) == (1.0, 1)
    graphs = -(-64 // chunk)  # each looks for ignored targets
    # Parameters as before? Fisher matrix finite? Candidates' products, their losses, the trial's.
    assert len(device.reads) == last.products + graphs + 5


def test_a_tensor_of_the_host_among_those_of_the_device_is_an_error():
    with FakeDevice(), pytest.raises(RuntimeError, match="of the CPU and of the device meet"):
        torch.ones(3).to(NAME) + torch.ones(3)
