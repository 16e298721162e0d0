"""HessianFree: the same whatever the number of workers, downhill always, resumable, never stuck."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thinwire import HessianFree, Objective

METHODS = ("gauss-newton", "bicgstab", "hybrid", "cg")


def problem(dtype=torch.float64, samples=301, seed=0):
    """A classification task and a small sigmoid network."""
    torch.manual_seed(seed)
    inputs = torch.randn(samples, 6, dtype=dtype)
    targets = (inputs[:, :3] @ torch.randn(3, 4, dtype=dtype)).argmax(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 4)).to(dtype)
    return model, inputs, targets


def options(**changed):
    return {"curvature_batch": 128, "solver_iterations": 8, **changed}


def train(steps, *, dtype=torch.float64, everywhere=True, rank=0, world=1, **changed):
    """(losses, parameters, the optimiser) after some steps."""
    model, inputs, targets = problem(dtype)
    optimizer = HessianFree(model.parameters(), **options(**changed))
    if not everywhere:  # uneven shards of one's own, in the global order
        bounds = [0, *(len(inputs) * (k + 1) ** 2 // world**2 for k in range(world))]
        mine = slice(bounds[rank], bounds[rank + 1])
        inputs, targets = inputs[mine], targets[mine]
    objective = Objective(
        model, F.cross_entropy, (inputs, targets), everywhere=everywhere, chunk=50
    )
    losses = [optimizer.step(objective) for _ in range(steps)]
    return losses, torch.cat([p.detach().reshape(-1) for p in model.parameters()]), optimizer


def on_rank(rank, world, steps, changed):
    losses, theta, optimizer = train(steps, rank=rank, world=world, **changed)
    return losses, theta, optimizer.ledger.state_dict(), optimizer.last_step


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preconditioner", ["kronecker", "diagonal", "none"])
def test_never_goes_uphill_and_learns(method, preconditioner):
    losses, _, optimizer = train(8, method=method, preconditioner=preconditioner)
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert losses[-1] < 0.5 * math.log(4)
    assert optimizer.last_step.loss == losses[-1]


@pytest.mark.parametrize(
    ("method", "curvature", "everywhere"),
    [
        ("gauss-newton", "sharded", True),
        ("gauss-newton", "replicated", True),
        ("gauss-newton", "replicated", False),
        ("gauss-newton", "sharded", False),
        ("bicgstab", "sharded", True),
        ("hybrid", "replicated", True),
        ("cg", "sharded", True),
    ],
)
def test_number_of_workers_changes_nothing(run_ranks, method, curvature, everywhere):
    changed = {"method": method, "curvature": curvature}
    alone, theta, _ = train(5, **changed)
    for world in (2, 4) if method == "gauss-newton" else (2,):
        results = run_ranks(world, on_rank, 5, {**changed, "everywhere": everywhere})
        for losses, parameters, _, _ in results:
            assert losses == pytest.approx(alone, rel=1e-9)
            assert (parameters - theta).norm() <= 1e-9 * theta.norm()
            assert torch.equal(parameters, results[0][1])


def test_float32_agrees_to_rounding(run_ranks):
    alone, theta, _ = train(4, dtype=torch.float32)
    for losses, parameters, _, _ in run_ranks(2, on_rank, 4, {"dtype": torch.float32}):
        assert losses == pytest.approx(alone, rel=1e-4)
        assert (parameters - theta).norm() <= 1e-3 * theta.norm()


def test_replicated_solves_send_one_vector_for_each_iteration(run_ranks):
    for _, _, ledger, _ in run_ranks(2, on_rank, 5, {"curvature": "replicated"}):
        assert ledger["gradient"]["collectives"] == 6  # all trials accepted: one more than steps
        assert set(ledger) == {"initial parameters", "sample counts", "gradient"}
        values = (6 * 8 + 8 + 8 * 4 + 4) + 1 + 16  # gradient, loss, fingerprint
        assert ledger["gradient"]["bytes"] == 6 * 2 * (values * 8) // 2


def test_sharded_solves_send_one_vector_for_each_product(run_ranks):
    changed = {"curvature": "sharded", "warm_start": 0.0}
    for _, _, ledger, last in run_ranks(2, on_rank, 1, changed):
        assert ledger["curvature products"]["collectives"] == last.products
        assert ledger["gradient"]["collectives"] == 2
        assert ledger["inner products"]["collectives"] == 1
        assert ledger["candidate losses"]["collectives"] == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("curvature", ["replicated", "sharded"])
def test_resumes_to_the_bit(method, curvature):
    changed = {"method": method, "curvature": curvature}
    _, undisturbed, _ = train(6, **changed)
    model, inputs, targets = problem()
    objective = Objective(model, F.cross_entropy, (inputs, targets), chunk=50)
    optimizer = HessianFree(model.parameters(), **options(**changed))
    for _ in range(3):
        optimizer.step(objective)
    saved, parameters = optimizer.state_dict(), model.state_dict()
    model, _, _ = problem(seed=1)
    optimizer = HessianFree(model.parameters(), **options(**changed))
    model.load_state_dict(parameters)
    optimizer.load_state_dict(saved)
    passes = optimizer.passes
    objective = Objective(model, F.cross_entropy, (inputs, targets), chunk=50)
    for _ in range(3):
        optimizer.step(objective)
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    assert torch.equal(theta, undisturbed)
    assert optimizer.passes > passes
