import torch
from torch import nn

from tests.conftest import RunRanks
from thinwire.exchange import Ledger, shared_wire
from thinwire.train.replicas import compare_replicas, fingerprint


def model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_fingerprint_sees_every_bit_of_parameters_and_buffers() -> None:
    one, other = model(0), model(0)
    assert fingerprint(one.state_dict()) == fingerprint(other.state_dict())
    other[1].running_mean[1] = torch.nextafter(torch.tensor(0.0), torch.tensor(1.0))
    assert fingerprint(one.state_dict()) != fingerprint(other.state_dict())


def compare(rank: int, world: int, seeds: list[int]) -> str:
    try:
        return compare_replicas(model(seeds[rank]).state_dict(), shared_wire(None, Ledger()))
    except RuntimeError as error:
        return str(error)


def test_identical_replicas_share_a_fingerprint(run_ranks: RunRanks) -> None:
    assert run_ranks(3, compare, [5, 5, 5]) == [fingerprint(model(5).state_dict())] * 3


def test_differing_replicas_are_an_error_on_every_worker(run_ranks: RunRanks) -> None:
    expected = "replicas differ: workers [1, 2] do not hold worker 0's parameters"
    assert run_ranks(3, compare, [5, 6, 7]) == [expected] * 3
