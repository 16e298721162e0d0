"""What HessianFree minimises: a mean loss over a whole data set, spread over workers."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from thinwire.curvature import (
    Batch,
    Evaluation,
    FlatModel,
    Loss,
    Samples,
    Workers,
    check_deterministic,
)


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
        data: (inputs, targets), tensors of n rows each, or a map-style data set of such pairs. They
            go to the model's device when they are used, a chunk at a time.
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
        """The samples of these numbers, in order, on the model's device."""
        device = next(self.model.parameters()).device
        inputs, targets = self._rows(indices)
        inputs = inputs.to(device) if isinstance(inputs, Tensor) else inputs
        return inputs, targets.to(device) if isinstance(targets, Tensor) else targets

    def _rows(self, indices: range | Tensor) -> Batch:
        if isinstance(self._data, tuple):
            if isinstance(indices, range):
                run = slice(indices.start, indices.stop)
                return self._data[0][run], self._data[1][run]
            inputs, targets = self._data
            return inputs[indices.to(inputs.device)], targets[indices.to(targets.device)]
        numbers = list(indices) if isinstance(indices, range) else indices.tolist()
        # No samples still have a shape, which another one tells.
        inputs, targets = default_collate([self._data[i] for i in numbers or [0]])
        return (inputs, targets) if numbers else (inputs[:0], targets[:0])


class SharedObjective:
    """An objective as one worker of several sees it.

    Args:
        objective: what to minimise.
        model: its model as a function of theta.
        workers: who holds the samples; one small collective.

    Attributes:
        model: as given.
        total: n, samples over all workers.
        cost: what it took to count them.
        lasting: True: every step minimises the same function.
    """

    lasting = True

    def __init__(self, objective: Objective, model: FlatModel, workers: Workers) -> None:
        self.model = model
        self._objective, self._workers = objective, workers
        counted = workers.gather_numbers([objective.samples], "sample counts")
        counts, self.cost = [int(n) for (n,) in counted.result], counted.cost
        if objective.everywhere:
            if len(set(counts)) > 1:
                raise ValueError(f"data: workers hold different numbers of samples: {counts}")
            self.total = counts[0]
            self._starts = [self.total * k // workers.world for k in range(workers.world + 1)]
        else:
            self._starts = [sum(counts[:k]) for k in range(workers.world + 1)]
            self.total = self._starts[-1]
            if not self.total:
                raise ValueError("data: no worker has any samples")

    def full(self) -> Samples:
        """This worker's share of all samples."""
        first, last = self._starts[self._workers.rank : self._workers.rank + 2]
        offset = 0 if self._objective.everywhere else first
        return self._samples(range(first - offset, last - offset), self.total)

    def batch(self, numbers: Tensor, *, replicated: bool) -> Evaluation[Samples]:
        """Samples of these numbers among all; this worker's part of them, or all on each worker."""
        if self._objective.everywhere:
            mine = numbers if replicated else self._share(numbers)
            return Evaluation(self._samples(mine, len(numbers)))
        first, last = self._starts[self._workers.rank : self._workers.rank + 2]
        mine = numbers[(numbers >= first) & (numbers < last)] - first
        if not replicated:
            return Evaluation(self._samples(mine, len(numbers)))
        return self._gathered(mine, numbers)

    def _share(self, numbers: Tensor) -> Tensor:
        rank, world, size = self._workers.rank, self._workers.world, len(numbers)
        return numbers[size * rank // world : size * (rank + 1) // world]

    def _samples(self, indices: range | Tensor, total: int) -> Samples:
        chunks: Any = _Chunks(self._objective, indices)
        if isinstance(indices, Tensor):
            chunks = list(chunks)  # fetched once: a batch is gone through many times
        return Samples(self.model, self._objective.loss, chunks, total)

    def _gathered(self, mine: Tensor, numbers: Tensor) -> Evaluation[Samples]:
        """The batch, every worker having sent the rest what it holds of it."""
        ends = zip(self._starts, self._starts[1:], strict=False)
        held = [int(((numbers >= a) & (numbers < b)).sum()) for a, b in ends]
        own = self._objective.rows(mine)
        if not all(isinstance(part, Tensor) for part in own):
            raise TypeError("data: a replicated batch of own samples must be of tensors")
        inputs, targets = (_gather_rows(part, held, self._workers) for part in own)
        size = self._objective.chunk
        chunks = list(zip(inputs.result.split(size), targets.result.split(size), strict=True))
        samples = Samples(self.model, self._objective.loss, chunks, len(numbers))
        return Evaluation(samples).after(inputs, targets)


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
    return (
        torch.randperm(total, generator=generator, dtype=torch.int64, device="cpu")[:size]
        .sort()
        .values
    )


def draw_seed(seed: int, purpose: str, iteration: int) -> int:
    """A seed that no other purpose or iteration of any run shares."""
    digest = hashlib.blake2b(f"{seed} {purpose} {iteration}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _gather_rows(own: Tensor, held: Sequence[int], workers: Workers) -> Evaluation[Tensor]:
    """Rows of all workers, [sum(held), ...], from ``held[k]`` rows of each."""
    padded = own.new_zeros(max(held), *own.shape[1:])
    padded[: len(own)] = own
    parts = workers.gather(padded.reshape(-1), "curvature batch")
    rows = [p.view(padded.shape)[:count] for p, count in zip(parts.result, held, strict=True)]
    return Evaluation(torch.cat(rows), parts.cost)
