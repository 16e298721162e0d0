"""What HessianFree minimises: a mean loss over a whole data set, spread over workers."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from thinwire.curvature import Batch, FlatModel, Loss, Samples, check_deterministic
from thinwire.exchange import Wire


class Rows(Protocol):
    """A map-style data set: samples (input, target) by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Objective:
    """The mean loss of a model over a data set.

    Args:
        model: its forward must be deterministic and treat samples independently; probed at
            construction. It must not be wrapped in DistributedDataParallel.
        loss: (outputs, targets) -> mean over samples.
        data: (inputs, targets), tensors of n rows each, or a map-style data set of such pairs.
        everywhere: every worker passes the whole data set and works on its share. False: each
            passes only samples of its own, and what others hold is sent where it is needed.
        chunk: samples in one forward; of a whole pass, only one chunk's activations are held.

    Raises:
        ValueError: inputs and targets of different lengths, no samples, or a forward that is not
            deterministic.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: tuple[Tensor, Tensor] | Rows,
        *,
        everywhere: bool = True,
        chunk: int = 2048,
    ) -> None:
        if isinstance(data, tuple) and len(data[0]) != len(data[1]):
            raise ValueError(f"data: got {len(data[0])} inputs but {len(data[1])} targets")
        self.model, self.loss = model, loss
        self.everywhere, self.chunk = everywhere, chunk
        self._data = data
        self.samples = len(data[1]) if isinstance(data, tuple) else len(data)
        if chunk < 1 or (everywhere and not self.samples):
            raise ValueError(f"expected samples and chunk >= 1, got {self.samples}, {chunk}")
        if self.samples:
            check_deterministic(FlatModel(model), *self.rows(range(min(8, self.samples))))

    def rows(self, indices: range | Tensor) -> Batch:
        """The samples of these numbers, in order."""
        if isinstance(self._data, tuple):
            chosen = slice(indices.start, indices.stop) if isinstance(indices, range) else indices
            return self._data[0][chosen], self._data[1][chosen]
        numbers = list(indices) if isinstance(indices, range) else indices.tolist()
        # No samples still have a shape, which another one tells.
        inputs, targets = default_collate([self._data[i] for i in numbers or [0]])
        return (inputs, targets) if numbers else (inputs[:0], targets[:0])


class SharedObjective:
    """An objective as one worker of several sees it.

    Args:
        objective: what to minimise.
        model: its model as a function of theta.
        wire: the workers.

    Attributes:
        model: as given.
        total: n, samples over all workers.
        lasting: True: every step minimises the same function.
    """

    lasting = True

    def __init__(self, objective: Objective, model: FlatModel, wire: Wire) -> None:
        self.model = model
        self._objective, self._wire = objective, wire
        own = torch.tensor([float(objective.samples)], dtype=torch.float64)
        counts = [int(n) for n in torch.cat(wire.all_gather(own, "sample counts")).tolist()]
        if objective.everywhere:
            if len(set(counts)) > 1:
                raise ValueError(f"data: workers hold different numbers of samples: {counts}")
            self.total = counts[0]
            self._starts = [self.total * k // wire.world for k in range(wire.world + 1)]
        else:
            self._starts = [sum(counts[:k]) for k in range(wire.world + 1)]
            self.total = self._starts[-1]
            if not self.total:
                raise ValueError("data: no worker has any samples")

    def full(self) -> Samples:
        """This worker's share of all samples."""
        first, last = self._starts[self._wire.rank : self._wire.rank + 2]
        offset = 0 if self._objective.everywhere else first
        return self._samples(range(first - offset, last - offset), self.total)

    def batch(self, numbers: Tensor, *, replicated: bool) -> Samples:
        """Samples of these numbers among all; this worker's part of them, or all on each worker."""
        if self._objective.everywhere:
            mine = numbers if replicated else self._share(numbers)
            return self._samples(mine, len(numbers))
        first, last = self._starts[self._wire.rank : self._wire.rank + 2]
        mine = numbers[(numbers >= first) & (numbers < last)] - first
        if not replicated:
            return self._samples(mine, len(numbers))
        return self._gathered(mine, numbers)

    def _share(self, numbers: Tensor) -> Tensor:
        rank, world, size = self._wire.rank, self._wire.world, len(numbers)
        return numbers[size * rank // world : size * (rank + 1) // world]

    def _samples(self, indices: range | Tensor, total: int) -> Samples:
        chunks: Any = _Chunks(self._objective, indices)
        if isinstance(indices, Tensor):
            chunks = list(chunks)  # fetched once: a batch is gone through many times
        return Samples(self.model, self._objective.loss, chunks, total)

    def _gathered(self, mine: Tensor, numbers: Tensor) -> Samples:
        """The batch, every worker having sent the rest what it holds of it."""
        ends = zip(self._starts, self._starts[1:], strict=False)
        held = [int(((numbers >= a) & (numbers < b)).sum()) for a, b in ends]
        own = self._objective.rows(mine)
        if not all(isinstance(part, Tensor) for part in own):
            raise TypeError("data: a replicated batch of own samples must be of tensors")
        inputs, targets = (_gather_rows(part, held, self._wire) for part in own)
        size = self._objective.chunk
        chunks = list(zip(inputs.split(size), targets.split(size), strict=True))
        return Samples(self.model, self._objective.loss, chunks, len(numbers))


class _Chunks:
    """Samples of some numbers, a chunk at a time, as often as they are iterated."""

    def __init__(self, objective: Objective, indices: range | Tensor) -> None:
        self._objective, self._indices = objective, indices

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self._indices), self._objective.chunk):
            yield self._objective.rows(self._indices[start : start + self._objective.chunk])


def draw(total: int, size: int, seed: int, iteration: int) -> Tensor:
    """Numbers of a random batch: the same whoever draws it, another in each iteration.

    Returns:
        int64 [min(size, total)], in ascending order.
    """
    generator = torch.Generator().manual_seed(draw_seed(seed, "curvature", iteration))
    return torch.randperm(total, generator=generator)[:size].sort().values


def draw_seed(seed: int, purpose: str, iteration: int) -> int:
    """A seed that no other purpose or iteration of any run shares."""
    digest = hashlib.blake2b(f"{seed} {purpose} {iteration}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _gather_rows(own: Tensor, held: Sequence[int], wire: Wire) -> Tensor:
    """Rows of all workers, [sum(held), ...], from ``held[k]`` rows of each."""
    padded = own.new_zeros(max(held), *own.shape[1:])
    padded[: len(own)] = own
    parts = wire.all_gather(padded.reshape(-1), "curvature batch")
    rows = [part.view(padded.shape)[:count] for part, count in zip(parts, held, strict=True)]
    return torch.cat(rows)
