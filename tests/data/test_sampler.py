"""The global minibatch stream: each epoch a permutation whatever happens, and exact resume."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.data import MinibatchSampler, shard

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=40)


@settings(deadline=None)
@given(
    size=st.integers(1, 40),
    seed=st.integers(0, 2**63 - 1),
    minibatches=SIZES,
    resume=st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_every_epoch_is_a_permutation(size, seed, minibatches, resume):
    """Under any change of the minibatch size and resuming, in a fresh sampler, at any point."""
    sampler = MinibatchSampler(size, minibatches[0], seed)
    seen = {}
    for step, minibatch in enumerate(minibatches):
        if resume[step]:
            state = sampler.state_dict()
            sampler = MinibatchSampler(size, 1, 0)
            sampler.load_state_dict(state)
        sampler.minibatch = minibatch
        epoch, position = sampler.epoch, sampler.position
        drawn = sampler.next_minibatch()
        assert drawn.dtype == torch.int64
        assert len(drawn) == min(minibatch, size - position)
        seen.setdefault(epoch, []).extend(drawn.tolist())
    for epoch, drawn in seen.items():
        if epoch < sampler.epoch:
            assert sorted(drawn) == list(range(size))
        else:
            assert len(set(drawn)) == len(drawn) == sampler.position
    assert sorted(seen) == list(range(max(seen) + 1))


@settings(deadline=None, max_examples=50)
@given(
    size=st.integers(1, 30),
    minibatch=st.integers(1, 12),
    before=st.integers(0, 30),
    seed=st.just(7),
)
def test_resume_goes_on_with_the_same_stream(size, minibatch, before, seed):
    sampler = MinibatchSampler(size, minibatch, seed)
    for _ in range(before):
        sampler.next_minibatch()
    other = MinibatchSampler(size, minibatch + 1, seed + 1)
    other.next_minibatch()  # so that its own order is already drawn
    other.load_state_dict(sampler.state_dict())
    for _ in range(10):
        assert torch.equal(sampler.next_minibatch(), other.next_minibatch())
    assert sampler.state_dict() == other.state_dict()


def epoch_order(seed, epoch, size=200):
    sampler = MinibatchSampler(size, size, seed)
    for _ in range(epoch):
        sampler.next_minibatch()
    return sampler.next_minibatch().tolist()


def test_orders_differ_between_epochs_and_seeds_but_not_workers():
    orders = [epoch_order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9
    assert list(range(200)) not in orders
    assert epoch_order(1, 2) == epoch_order(1, 2)


def test_order_does_not_depend_on_or_disturb_the_global_generator():
    torch.manual_seed(1)
    first = epoch_order(5, 1)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), drawn)
    assert epoch_order(5, 1) == first


def test_order_does_not_depend_on_the_minibatch_size():
    small = MinibatchSampler(20, 3, 9)
    stream = torch.cat([small.next_minibatch() for _ in range(7)])
    assert stream.tolist() == epoch_order(9, 0, size=20)


def test_epoch_counts_up_with_its_last_sample():
    sampler = MinibatchSampler(5, 3, 0)
    lengths, marks = [], []
    for _ in range(4):
        lengths.append(len(sampler.next_minibatch()))
        marks.append((sampler.epoch, sampler.position))
    assert lengths == [3, 2, 3, 2]
    assert marks == [(0, 3), (1, 0), (1, 3), (2, 0)]


def test_a_minibatch_owns_its_memory_and_no_more():
    drawn = MinibatchSampler(1000, 3, 0).next_minibatch()
    assert drawn.untyped_storage().nbytes() == 3 * 8


@pytest.mark.parametrize("field", ["size", "minibatch", "seed"])
@pytest.mark.parametrize("value", [1.0, True, "3", None])
def test_refuses_other_types(field, value):
    arguments = {"size": 5, "minibatch": 2, "seed": 0} | {field: value}
    with pytest.raises(TypeError, match=f"^{field}: got {value!r}.*expected an int"):
        MinibatchSampler(**arguments)


@pytest.mark.parametrize(
    ("field", "value"), [("size", 0), ("minibatch", 0), ("seed", -1), ("seed", 1 << 63)]
)
def test_refuses_values_out_of_range(field, value):
    arguments = {"size": 5, "minibatch": 2, "seed": 0} | {field: value}
    with pytest.raises(ValueError, match=f"^{field}: got {value}, expected"):
        MinibatchSampler(**arguments)


def test_refuses_a_bad_minibatch_and_keeps_the_old_one():
    sampler = MinibatchSampler(5, 2, 0)
    with pytest.raises(ValueError, match="minibatch: got 0"):
        sampler.minibatch = 0
    assert sampler.minibatch == 2


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"size": 6}, ValueError, "size: got 6, expected 5 samples"),
        ({"size": 5.0}, TypeError, "size: got 5.0"),
        ({"position": 5}, ValueError, "position: got 5, expected 0 to 4"),
        ({"position": -1}, ValueError, "position: got -1"),
        ({"position": "2"}, TypeError, "position: got '2'"),
        ({"epoch": -1}, ValueError, "epoch: got -1"),
        ({"epoch": True}, TypeError, "epoch: got True"),
        ({"seed": None}, TypeError, "seed: got None"),
        ({"minibatch": 0}, ValueError, "minibatch: got 0"),
        ({"rank": 0}, ValueError, "fields: got .*'rank'.*expected"),
    ],
)
def test_refused_state_changes_nothing(change, error, text):
    sampler = MinibatchSampler(5, 2, 0)
    sampler.next_minibatch()
    before = sampler.state_dict()
    changed = {"epoch": 3, "position": 4, "seed": 9, "minibatch": 4, "size": 5} | change
    with pytest.raises(error, match=f"sampler state: {text}"):
        sampler.load_state_dict(changed)
    assert sampler.state_dict() == before


def test_refuses_a_state_with_a_field_missing():
    sampler = MinibatchSampler(5, 2, 0)
    state = sampler.state_dict()
    del state["seed"]
    with pytest.raises(ValueError, match="sampler state: fields: got"):
        sampler.load_state_dict(state)


@settings(deadline=None)
@given(length=st.integers(0, 50), world=st.integers(1, 12))
def test_shards_are_the_whole_nearly_even_and_in_order(length, world):
    indices = torch.randperm(length)
    parts = [shard(indices, rank, world) for rank in range(world)]
    assert torch.equal(torch.cat(parts), indices)
    share, extra = divmod(length, world)
    assert [len(part) for part in parts] == [share + 1] * extra + [share] * (world - extra)


def test_shard_splits_rows():
    rows = torch.arange(6).reshape(3, 2)
    assert shard(rows, 1, 2).tolist() == [[4, 5]]


@pytest.mark.parametrize(("rank", "world"), [(-1, 2), (2, 2), (0, 0)])
def test_shard_refuses_ranks_out_of_range(rank, world):
    with pytest.raises(ValueError, match=r"(rank|world): got"):
        shard(torch.arange(4), rank, world)


def test_shard_refuses_other_types():
    with pytest.raises(TypeError, match=r"rank: got 1\.0"):
        shard(torch.arange(4), 1.0, 2)
    with pytest.raises(ValueError, match="indices: got a tensor without dimensions"):
        shard(torch.tensor(3), 0, 2)
