"""Products against dense matrices by torch.func, in float64; sharded against whole."""

import pytest
import torch
from torch.func import functional_call, jacrev

from tests.curvature.cases import CLASSES, LOSSES, MODELS, case
from thinwire import GaussNewtonOperator, HessianOperator, gradient
from thinwire.curvature import FlatModel, samples
from thinwire.exchange import shared_wire

CASES = [(model, "cross entropy") for model in MODELS] + [("sigmoid", loss) for loss in LOSSES]


def hessian(f):
    """Reverse over reverse: forward mode does not know all modules."""
    return jacrev(jacrev(f))


def dense(module, loss, batch):
    """(f, g, H, G) of the flat parameters."""
    inputs, targets = batch
    flat = FlatModel(module)

    def outputs(theta):
        values = dict(zip(flat.names, flat.pieces(theta), strict=True))
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return functional_call(module, values, (inputs,))

    def f(theta):
        return loss(outputs(theta), targets)

    theta = flat.read()
    z = outputs(theta)
    J = jacrev(outputs)(theta).reshape(z.numel(), len(theta))
    H_L = hessian(lambda flat_z: loss(flat_z.view_as(z), targets))(z.reshape(-1))
    return f(theta), jacrev(f)(theta), hessian(f)(theta), J.T @ H_L @ J


def columns(operator, size):
    return torch.stack([operator @ e for e in torch.eye(size, dtype=torch.float64)], dim=1)


@pytest.mark.parametrize(("model", "loss"), CASES)
def test_products_are_the_dense_matrices(model, loss):
    module, loss, batch = case(model, loss)
    f, g, H, G = dense(module, loss, batch)
    value, own = gradient(module, loss, batch)
    assert value == pytest.approx(float(f))
    torch.testing.assert_close(own, g)
    for operator, matrix in ((HessianOperator, H), (GaussNewtonOperator, G)):
        found = columns(operator(module, loss, batch), len(g))
        torch.testing.assert_close(found, matrix, rtol=1e-10, atol=1e-12)
        # An entry is a sum over samples and ways through the network, at most one for each weight.
        rounding = torch.finfo(torch.float64).eps * len(batch[1]) * len(g)
        torch.testing.assert_close(
            found, found.T, rtol=0, atol=rounding * float(matrix.abs().max())
        )


def test_one_linear_layer_is_its_own_gauss_newton():
    module, loss, batch = case("linear", "cross entropy")
    v = torch.randn(21, dtype=torch.float64)
    H, G = HessianOperator(module, loss, batch), GaussNewtonOperator(module, loss, batch)
    torch.testing.assert_close(H @ v, G @ v)


@pytest.mark.parametrize("operator", [HessianOperator, GaussNewtonOperator])
def test_large_batches_are_split_into_several_graphs(monkeypatch, operator):
    module, loss, batch = case("sigmoid", "cross entropy")
    v = torch.randn(43, dtype=torch.float64)
    whole = operator(module, loss, batch) @ v
    monkeypatch.setattr(samples, "AT_ONCE", 5)
    torch.testing.assert_close(operator(module, loss, batch) @ v, whole)


@pytest.mark.parametrize("operator", [HessianOperator, GaussNewtonOperator])
def test_outputs_of_other_parameters_alone_have_no_curvature(operator):
    """Only a parameter that the forward does not use is part of theta."""
    module, loss, batch = case("tied", "cross entropy")
    flat = FlatModel(module, [module.unused])
    own = samples.Samples(flat, loss, [batch], len(batch[1]))
    summand = own.hessian if operator is HessianOperator else own.gauss_newton
    assert summand(flat.read())(torch.ones(2, dtype=torch.float64)).tolist() == [0, 0]
    assert own.gradient(flat.read())[1].tolist() == [0, 0]


def test_product_brings_inner_products_and_damping():
    module, loss, batch = case("sigmoid", "cross entropy")
    operator = HessianOperator(module, loss, batch, damping=0.3)
    v, w, a = torch.randn(3, 43, dtype=torch.float64)
    Bv, (vBv, wBv, aw) = operator.product(v, against=[v, w], pairs=[(a, w)])
    torch.testing.assert_close(Bv, operator @ v + 0.3 * v)
    torch.testing.assert_close(Bv, operator(v))
    assert (vBv, wBv, aw) == pytest.approx((float(v @ Bv), float(w @ Bv), float(a @ w)))
    assert operator.dots([(v, w)]) == pytest.approx([float(v @ w)])
    assert operator.products == 3
    assert operator.samples == 3 * 12


def test_trial_points_do_not_disturb_retained_graphs():
    module, loss, batch = case("sigmoid", "cross entropy")
    operator = HessianOperator(module, loss, batch)
    v = torch.randn(43, dtype=torch.float64)
    before = operator @ v
    flat = FlatModel(module)
    flat.write(flat.read() + 1)  # the operator is of the parameters at its construction
    assert torch.equal(operator @ v, before)


def sharded(rank, world, model, loss):
    module, loss, (inputs, targets) = case(model, loss)
    cuts = [0, 2, 7, 7, 12] if world == 4 else [0, 5, 12]  # uneven, and one empty
    mine = slice(cuts[rank], cuts[rank + 1])
    batch = inputs[mine], targets[mine]
    found = []
    for operator in (HessianOperator, GaussNewtonOperator):
        made = operator(module, loss, batch, damping=0.1)
        products = made.ledger.total("curvature products").collectives
        v = torch.linspace(-1, 1, sum(FlatModel(module).sizes), dtype=torch.float64)
        found.append(made.product(v, against=[v], pairs=[(v, v)]))
        assert made.ledger.total("curvature products").collectives == products + 1
    return found, gradient(module, loss, batch)


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("model", ["sigmoid", "conv"])
def test_sharded_is_the_same_as_whole(run_ranks, world, model):
    module, loss, batch = case(model, "cross entropy")
    v = torch.linspace(-1, 1, sum(FlatModel(module).sizes), dtype=torch.float64)
    whole = [
        operator(module, loss, batch, damping=0.1).product(v, against=[v], pairs=[(v, v)])
        for operator in (HessianOperator, GaussNewtonOperator)
    ]
    value, g = gradient(module, loss, batch)
    results = run_ranks(world, sharded, model, "cross entropy")
    for found, (own_value, own_g) in results:
        for (Bv, inner), (whole_Bv, whole_inner) in zip(found, whole, strict=True):
            torch.testing.assert_close(Bv, whole_Bv)
            assert inner == pytest.approx(whole_inner)
        assert own_value == pytest.approx(value)
        torch.testing.assert_close(own_g, g)
        assert torch.equal(own_g, results[0][1][1])


def test_losses_with_closed_forms_are_recognised():
    from thinwire.curvature.output_hessian import output_hessian

    z = torch.randn(5, 3, dtype=torch.float64)
    for name, loss in LOSSES.items():
        targets = torch.tensor([0, 1, 2, 0, 1]) if name in CLASSES else torch.rand_like(z)
        H_L = hessian(lambda flat, t=targets, f=loss: f(flat.view(5, 3), t))(z.reshape(-1))
        u = torch.randn(5, 3, dtype=torch.float64)
        product = output_hessian(loss, z, targets, weight=0.5)(u)
        torch.testing.assert_close(product, (0.5 * H_L @ u.reshape(-1)).view(5, 3))


def test_wire_alone_sends_nothing(run_ranks):
    assert all(run_ranks(2, _alone))


def _alone(rank, world):
    from thinwire.exchange import Ledger

    wire = shared_wire(None, Ledger()).alone()
    total = wire.sum(torch.tensor([float(rank)]), "x")
    return float(total) == rank and not wire.ledger.stages
