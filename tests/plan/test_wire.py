"""Z from real packets, and what links make of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinwire.exchange import TwoStage
from thinwire.plan import Link, Network, compression
from thinwire.plan.wire_format import bucket_bytes
from thinwire.quantize import FlatSpace, code_names, named_code

SHAPES = [(10, 784), (10,), (300, 70)]


@pytest.mark.parametrize("code", code_names())
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_bytes_are_those_of_the_exchange(code: str, workers: int) -> None:
    columns = FlatSpace([torch.Size(shape) for shape in SHAPES]).columns
    found = bucket_bytes(SHAPES, code, workers)
    packets = TwoStage(columns, 0, workers).packet_bytes(named_code(code))
    sent = [sum(packets) - own for own in packets]  # stage 1, by worker
    assert found.gradients == max(sent)
    assert found.packet == max(packets)
    assert found.total == max(sent) + (workers - 1) * max(packets)


def test_each_stage_has_its_own_code() -> None:
    """Names or codes themselves, two of them."""
    sign, four = (bucket_bytes(SHAPES, name, 3) for name in ("sign", "4-bit"))
    both = bucket_bytes(SHAPES, ("sign", named_code("4-bit")), 3)
    assert (both.gradients, both.packet) == (sign.gradients, four.packet)


def test_z_by_hand() -> None:
    # 4 columns of 1024: two workers exchange 2 each: 16 header + 2 (4 levels + 128 signs) = 280.
    assert compression([[(4, 1024)]], "sign", 2) == pytest.approx(8 * 4096 / 2 / (2 * 280))


@given(st.integers(2, 64))
def test_z_stays_below_the_code_s_own_factor(workers: int) -> None:
    assert 20 < compression([[(2048, 2048)]], "sign", workers) < 32
    assert 0.9 < compression([[(2048, 2048)]], "float32", workers) < 1


def test_one_worker_sends_nothing() -> None:
    assert bucket_bytes(SHAPES, "sign", 1).total == 0
    assert Network(Link(1.0)).all_reduce(1e6, 1) == 0.0


def test_aggregation_is_o_1_in_bytes() -> None:
    """S 3.1: both stages together tend to 2 M however many workers there are."""
    network, total = Network(Link(1e6)), 8e6
    seconds = [
        network.all_to_all(total * (k - 1) / k, k) + network.all_gather(total / k, k)
        for k in (2, 8, 64, 512)
    ]
    assert seconds == sorted(seconds)
    assert seconds[-1] == pytest.approx(16, rel=0.01)
    assert seconds[0] == pytest.approx(8)


def test_a_ring_all_reduce_takes_as_long() -> None:
    network = Network(Link(1e6))
    both = network.all_to_all(3e6, 4) + network.all_gather(1e6, 4)
    assert network.all_reduce(4e6, 4) == pytest.approx(both)


def test_start_ups_by_hand() -> None:
    network = Network(Link(1e9, latency=0.1, message=0.01))
    assert network.all_to_all(0, 5) == pytest.approx(0.1 + 3 * 0.01)
    assert network.all_gather(0, 5) == pytest.approx(0.1 + 3 * 0.01)
    assert network.all_reduce(0, 5) == pytest.approx(2 * 4 * 0.1)


def test_hierarchical_links_by_hand() -> None:
    """8 workers, 4 a machine. Each sends 1 MB to each of 7 peers: 4 x 4 MB leave a machine."""
    network = Network(Link(1e6), Link(1e9), per_node=4)
    assert network.all_to_all(7e6, 8) == pytest.approx(16.0)
    assert network.all_gather(1e6, 8) == pytest.approx(7.0)
    inside = Network(Link(1e6), Link(1e9), per_node=8)
    assert inside.all_to_all(7e6, 8) == pytest.approx(0.007)
    assert inside.all_gather(1e6, 8) == pytest.approx(0.007)


@given(st.integers(2, 8), st.floats(1e3, 1e9), st.integers(2, 8))
def test_sharing_a_link_is_never_faster(per_node: int, sent: float, machines: int) -> None:
    flat, shared = Network(Link(1e6)), Network(Link(1e6), Link(1e6), per_node)
    workers = per_node * machines
    assert shared.all_to_all(sent, workers) >= flat.all_to_all(sent, workers) * (1 - 1e-9)


def test_a_collective_waits_once() -> None:
    fast, slow = (Network(Link(1e6, latency=0.1, waiting=w), per_node=1) for w in (0.0, 0.5))
    inside = Network(Link(1e6, waiting=0.5), Link(1e9), per_node=2)
    for workers in (2, 7):
        for collective in ("all_to_all", "all_gather", "all_reduce"):
            seconds = getattr(slow, collective)(1e6, workers)
            assert seconds == pytest.approx(getattr(fast, collective)(1e6, workers) + 0.5)
    assert inside.all_gather(1e6, 4) == pytest.approx(0.5 + 3 * 1.0)
    assert slow.all_reduce(1e6, 1) == slow.all_to_all(1e6, 1) == 0


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="bandwidth: expected > 0"):
        Link(0)
    with pytest.raises(ValueError, match="latency"):
        Link(1, latency=-1)
    with pytest.raises(ValueError, match="waiting"):
        Link(1, waiting=float("nan"))
    with pytest.raises(ValueError, match="inner"):
        Network(Link(1), per_node=2)
