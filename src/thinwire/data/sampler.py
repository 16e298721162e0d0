"""The one global stream of minibatches all workers draw from, and each worker's part of it."""

from collections.abc import Mapping

import torch

from thinwire.data.order import Order, Part, Shuffled

_INT64_MAX = (1 << 63) - 1
_STATE_FIELDS = ("epoch", "position", "seed", "minibatch", "size")


class MinibatchSampler:
    """Minibatches of sample numbers, the same on every worker that has the same arguments.

    Each epoch visits every sample once, in a fresh order that depends on nothing but the seed
    and the epoch. The last minibatch of an epoch may be smaller than the others; the epoch is
    over as soon as its last sample is handed out, so `epoch` counts the epochs completed.

    Attributes:
        size: number of samples.
        seed: what the orders are drawn from.
        epoch: number of epochs completed.
        position: samples handed out in the present epoch, in [0, size).
    """

    def __init__(self, size: int, minibatch: int, seed: int, order: Order | None = None) -> None:
        """Starts at the first minibatch of epoch 0.

        Args:
            size: number of samples, at least 1.
            minibatch: samples per minibatch, at least 1; may exceed `size`.
            seed: in [0, 2**63).
            order: of the samples in an epoch; by default `Shuffled`.

        Raises:
            TypeError: an argument is not an int.
            ValueError: an argument is out of range.
        """
        self.size = _integer("size", size, 1, _INT64_MAX)
        self.seed = _integer("seed", seed, 0, _INT64_MAX)
        self.epoch = 0
        self.position = 0
        self._order: Order = Shuffled(size) if order is None else order
        self._part: Part | None = None
        self.minibatch = minibatch

    @property
    def minibatch(self) -> int:
        """Samples in the next minibatch (fewer at the end of an epoch); set it at any time."""
        return self._minibatch

    @minibatch.setter
    def minibatch(self, value: int) -> None:
        self._minibatch = _integer("minibatch", value, 1, _INT64_MAX)

    def next_minibatch(self) -> torch.Tensor:
        """Hands out the next minibatch.

        Returns:
            int64 [m], the numbers of m samples, 1 <= m <= `minibatch`, on the CPU.
        """
        if self._part is None:
            # Words rather than a sum: with seed + epoch, run 1 would repeat run 0 one epoch late.
            self._part = self._order.epoch(f"{self.seed} {self.epoch}")
        last = min(self.position + self._minibatch, self.size)
        chosen = self._part(self.position, last)
        self.position += len(chosen)
        if self.position == self.size:
            self.epoch += 1
            self.position = 0
            self._part = None
        return chosen

    def state_dict(self) -> dict[str, int]:
        """Everything needed to go on from here: epoch, position, seed, minibatch and size."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "seed": self.seed,
            "minibatch": self.minibatch,
            "size": self.size,
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Goes on from a saved state; a refused state leaves the sampler as it was.

        Args:
            state: what `state_dict` returned. Seed and minibatch size are taken from it; the
                number of samples must be this sampler's.

        Raises:
            TypeError: a field is not an int.
            ValueError: a field is missing, unknown or out of range, or the size differs.
        """
        if set(state) != set(_STATE_FIELDS):
            raise ValueError(
                f"sampler state: fields: got {sorted(map(str, state))}, "
                f"expected {sorted(_STATE_FIELDS)}"
            )
        size = _integer("sampler state: size", state["size"], 1, _INT64_MAX)
        if size != self.size:
            raise ValueError(f"sampler state: size: got {size}, expected {self.size} samples")
        epoch = _integer("sampler state: epoch", state["epoch"], 0, _INT64_MAX)
        position = _integer("sampler state: position", state["position"], 0, size - 1)
        seed = _integer("sampler state: seed", state["seed"], 0, _INT64_MAX)
        minibatch = _integer("sampler state: minibatch", state["minibatch"], 1, _INT64_MAX)
        self.epoch, self.position, self.seed, self.minibatch = epoch, position, seed, minibatch
        self._part = None


def shard(indices: torch.Tensor, rank: int, world: int) -> torch.Tensor:
    """Gives one worker's contiguous part of a minibatch.

    The parts of ranks 0 to world - 1, in order, are the whole; the first len(indices) % world
    ranks get one sample more than the others, and a part may be empty.

    >>> [shard(torch.arange(5), rank, 3).tolist() for rank in range(3)]
    [[0, 1], [2, 3], [4]]

    Args:
        indices: [m, ...], split along its first dimension.
        rank: the worker, in [0, world).
        world: number of workers, at least 1.

    Returns:
        A view of `indices`, [m // world or one more, ...].

    Raises:
        TypeError: rank or world is not an int.
        ValueError: rank or world is out of range, or `indices` has no dimension to split.
    """
    _integer("world", world, 1, _INT64_MAX)
    _integer("rank", rank, 0, world - 1)
    if indices.ndim == 0:
        raise ValueError("indices: got a tensor without dimensions, expected [m, ...]")
    mine = share_of(len(indices), rank, world)
    return indices[mine.start : mine.stop]


def share_of(size: int, rank: int, world: int) -> range:
    """Tell which of ``size`` samples are one worker's, as `shard` cuts them.

    >>> [share_of(5, rank, 3) for rank in range(3)]
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    share, extra = divmod(size, world)
    start = rank * share + min(rank, extra)
    return range(start, start + share + (rank < extra))


def _integer(field: str, value: object, low: int, high: int) -> int:
    """Returns `value` if it is an int in [low, high]; TypeError or ValueError if not."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{field}: got {value!r} ({type(value).__name__}), expected an int")
    if not low <= value <= high:
        raise ValueError(f"{field}: got {value}, expected {low} to {high}")
    return value
