"""Models split over a "model" dimension: the same products as the whole model's."""

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn import functional as F

from thinwire import GaussNewtonOperator, HessianFree, HessianOperator, Objective, gradient
from thinwire.curvature import FlatModel
from thinwire.curvature.fisher import squared_gradients

KINDS = (HessianOperator, GaussNewtonOperator)


def whole():
    """The model, in float64, and a batch of 12."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
    return model.double(), (torch.randn(12, 6, dtype=torch.float64), torch.randint(3, (12,)))


def split(mesh):
    model, batch = whole()
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    return parallelize_module(model, mesh, plan), batch


def products(model, batch, group=None):
    """(f, g, (H v, v.Hv), (G v, v.Gv)), damped."""
    v = torch.linspace(-1, 1, sum(FlatModel(model).sizes), dtype=torch.float64)
    f, g = gradient(model, F.cross_entropy, batch, process_group=group)
    found = []
    for kind in KINDS:
        operator = kind(model, F.cross_entropy, batch, damping=0.1, process_group=group)
        found.append(operator.product(v, against=[v], pairs=[(v, v)]))
    return f, g, *found


def check_same(found, expected):
    assert found[0] == pytest.approx(expected[0])
    torch.testing.assert_close(found[1], expected[1])
    for (Bv, inner), (own_Bv, own_inner) in zip(found[2:], expected[2:], strict=True):
        torch.testing.assert_close(Bv, own_Bv)
        assert inner == pytest.approx(own_inner)


def optimised(model, batch, group=None):
    """(losses, theta) after some steps, with the Kronecker-factored preconditioner."""
    optimizer = HessianFree(model.parameters(), curvature_batch=8, process_group=group)
    objective = Objective(model, F.cross_entropy, batch, chunk=5)
    losses = [optimizer.step(objective) for _ in range(3)]
    return losses, FlatModel(model).read()


def on_meshes(rank, world):
    """All of it in one job: torch keeps plans of meshes for the life of a process."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "model"))
    data, everyone = mesh["data"].get_group(), None
    model, (inputs, targets) = split(mesh["model"])
    found = {"same samples everywhere": products(model, (inputs, targets), everyone)}
    mine = slice(0, 5) if mesh["data"].get_local_rank() == 0 else slice(5, 12)
    found["2 x 2"] = products(model, (inputs[mine], targets[mine]), data)
    flat = FlatModel(model)
    fisher = squared_gradients(flat, F.cross_entropy, flat.read(), inputs, targets)
    steps = optimised(model, (inputs, targets), data)
    mesh = init_device_mesh("cpu", (1, 4), mesh_dim_names=("data", "model"))
    model, batch = split(mesh["model"])
    found["1 x 4"] = products(model, batch, mesh["data"].get_group())
    return found, fisher, steps


def test_split_is_the_same_as_whole(run_ranks):
    model, (inputs, targets) = whole()
    expected = products(model, (inputs, targets))
    flat = FlatModel(model)
    own_fisher = squared_gradients(flat, F.cross_entropy, flat.read(), inputs, targets)
    losses, theta = optimised(model, (inputs, targets))
    results = run_ranks(4, on_meshes)
    for found, fisher, (own_losses, own_theta) in results:
        for case in found.values():
            check_same(case, expected)
        torch.testing.assert_close(fisher, own_fisher)
        assert own_losses == pytest.approx(losses, rel=1e-9)
        torch.testing.assert_close(own_theta, theta)
        assert torch.equal(own_theta, results[0][2][1])
