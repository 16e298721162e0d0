"""Models that are not one function of theta for each sample are refused by name."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thinwire import HessianOperator, Objective
from thinwire.curvature import FlatModel


def batch():
    return torch.randn(8, 6), torch.randint(3, (8,))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Dropout(0.5), r"two forwards of the same samples differ.*1 \(Dropout\)"),
        (nn.BatchNorm1d(6), r"its forward changes the buffer '1.*1 \(BatchNorm1d\)"),
        (
            nn.BatchNorm1d(6, track_running_stats=False),
            r"depend on the other samples.*1 \(BatchNorm1d\)",
        ),
    ],
)
def test_refused_in_training_mode(module, reason):
    model = nn.Sequential(nn.Linear(6, 6), module, nn.Linear(6, 3))
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with pytest.raises(ValueError, match=reason):
        HessianOperator(model, F.cross_entropy, batch())
    with pytest.raises(ValueError, match=reason):
        Objective(model, F.cross_entropy, batch())
    assert all(torch.equal(buffers[name], b) for name, b in model.named_buffers())


def test_accepted_in_eval_mode_without_touching_the_random_state():
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.BatchNorm1d(6), nn.Linear(6, 3))
    state = torch.get_rng_state()
    HessianOperator(model.eval(), F.cross_entropy, (torch.ones(8, 6), torch.zeros(8).long()))
    assert torch.equal(torch.get_rng_state(), state)


def test_strange_parameters_are_refused():
    model = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"one of shape \[3, 3\] is not the model's"):
        FlatModel(model, [nn.Parameter(torch.ones(3, 3))])
    with pytest.raises(ValueError, match="at least one"):
        FlatModel(model.requires_grad_(False))
    with pytest.raises(TypeError, match="of dtype float32, float64, got bfloat16"):
        FlatModel(nn.Linear(2, 1).bfloat16())
    mixed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1).double())
    with pytest.raises(ValueError, match="one dtype and device"):
        FlatModel(mixed)
