"""What HessianFree minimises: a mean loss over a whole data set, spread over workers."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from thinwire.curvature import (
    Batch,
    Evaluation,
    FlatModel,
    Loss,
    Samples,
    WeightedLoss,
    Workers,
    as_mean,
    by_classes,
    check_deterministic,
    check_mean,
    class_weight,
    needs_weights,
    torch_loss,
)

_TRIED = 8  # samples that the model and the loss are tried on at construction


class Rows(Protocol):
    """A map-style data set: samples (input, target) by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Objective:
    """The mean loss of a model over a data set.

    Args:
        model: its forward must be deterministic and treat samples independently; probed at
            construction. It must not be wrapped in DistributedDataParallel.
        loss: (outputs, targets) -> mean over samples, each with the same weight; or (outputs,
            targets) -> (sum over samples, their weight), where what is minimised is the sum over
            all samples divided by the sum of all weights, as for language models with padding. The
            weight may depend on targets only. Class weights and ``ignore_index`` of
            ``torch.nn.CrossEntropyLoss`` and ``NLLLoss``, modules or functions, are taken so by
            themselves.
        data: (inputs, targets), tensors of n rows each, or a map-style data set of such pairs. They
            go to the model's device when they are used, a chunk at a time.
        everywhere: every worker passes the whole data set and works on its share. False: each
            passes only samples of its own, and what others hold is sent where it is needed.
        chunk: samples in one forward; of a whole pass, only one chunk's activations are held.

    Raises:
        TypeError: the loss returns neither one number nor (sum, weight).
        ValueError: inputs and targets of different lengths, no samples, a forward that is not
            deterministic, or a loss that is no mean over samples.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | WeightedLoss,
        data: tuple[Tensor, Tensor] | Rows,
        *,
        everywhere: bool = True,
        chunk: int = 2048,
    ) -> None:
        if not isinstance(data, tuple) and not hasattr(data, "__getitem__"):
            raise TypeError(
                "data: expected (inputs, targets) or a map-style data set of such pairs, got "
                f"{type(data).__name__}"
            )
        if isinstance(data, tuple) and len(data[0]) != len(data[1]):
            raise ValueError(f"data: got {len(data[0])} inputs but {len(data[1])} targets")
        self.model, self.loss = model, cast(Loss, loss)
        self._weighted: WeightedLoss | None = None
        self._weight_of: Callable[[Tensor], Tensor] | None = None  # of targets, without the model
        self._refused: int | None = None  # a target that may not appear, since it would not count
        self.everywhere, self.chunk = everywhere, chunk
        self._data = data
        self.samples = len(data[1]) if isinstance(data, tuple) else len(data)
        if chunk < 1 or (everywhere and not self.samples):
            raise ValueError(f"expected samples and chunk >= 1, got {self.samples}, {chunk}")
        if self.samples:
            check_deterministic(FlatModel(model), *self.rows(range(min(_TRIED, self.samples))))
            weighted = self._as_weighted(loss)
            if weighted is not None:
                self._weigh_by(weighted)

    @property
    def weighted(self) -> bool:
        """Whether samples have weights; ``loss`` is then the sum by the number of targets."""
        return self._weighted is not None

    def weigh(self) -> None:
        """Weigh samples as other workers do, whose targets showed the need."""
        if self._weighted is None:
            known = torch_loss(self.loss)
            self._weigh_by(cast(Any, self.loss) if known is None else by_classes(*known))

    def _weigh_by(self, weighted: WeightedLoss) -> None:
        self._weighted, self.loss, self._refused = weighted, as_mean(weighted), None

    def weight(self, indices: range | Tensor) -> float:
        """Return the weight of the samples of these numbers: their number where all weigh 1."""
        if self._weighted is None:
            return len(indices)
        total = 0.0
        with torch.no_grad():
            for start in range(0, len(indices), self.chunk):
                inputs, targets = self.rows(indices[start : start + self.chunk])
                if self._weight_of is not None:
                    total += float(self._weight_of(targets))
                else:
                    total += float(self._weighted(self.model(inputs), targets)[1])
        return total

    def _as_weighted(self, loss: Any) -> WeightedLoss | None:
        """The loss as a sum and its weight, if it is to be taken so; it is tried on a few rows."""
        known = torch_loss(loss)
        if known is not None:
            return self._over_classes(*known)
        inputs, targets = self.rows(self._telling_rows())
        with torch.no_grad():
            outputs = self.model(inputs)
            returned = loss(outputs, targets)
            if not isinstance(returned, tuple):
                check_mean(loss, outputs, targets)
                return None
        if len(returned) != 2:
            raise TypeError(f"loss: expected (sum, weight), got a tuple of {len(returned)}")
        return cast(WeightedLoss, loss)

    def _over_classes(
        self, function: Callable[..., Tensor], options: dict[str, Any]
    ) -> WeightedLoss | None:
        """One of torch's losses over classes as a sum and its weight, if it needs that."""
        if options["reduction"] != "mean":
            raise ValueError(
                f'loss: expected reduction="mean", got {options["reduction"]!r}; a loss may '
                "return (sum, weight) instead"
            )
        in_memory = isinstance(self._data, tuple)
        targets = self._data[1] if in_memory else self.rows(self._telling_rows())[1]
        if not needs_weights(targets, options):
            self._refused = None if in_memory else options["ignore_index"]
            return None
        self._weight_of = partial(class_weight, options=options)
        return by_classes(function, options)

    def _telling_rows(self) -> Tensor:
        """A few rows over the whole data set, and one that is padded if any is."""
        some = min(_TRIED, self.samples)
        rows = torch.arange(some, dtype=torch.int64, device="cpu") * (self.samples - 1)
        rows //= max(1, some - 1)
        targets = self._data[1] if isinstance(self._data, tuple) else None
        if not isinstance(targets, Tensor) or targets.is_floating_point() or not targets.numel():
            return rows
        least = int(targets.reshape(self.samples, -1).amin(1).argmin())
        told: Tensor = torch.cat([rows, rows.new_tensor([least])]).unique()
        return told

    def rows(self, indices: range | Tensor) -> Batch:
        """The samples of these numbers, in order, on the model's device."""
        device = next(self.model.parameters()).device
        inputs, targets = self._rows(indices)
        if self._refused is not None and bool((targets == self._refused).any()):
            raise ValueError(
                f"data: got a target of {self._refused}, which the loss ignores, and the first "
                "samples had none: give targets as a tensor, or a loss that returns (sum, weight)"
            )
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
        rider: a number that travels along.

    Attributes:
        model: as given.
        total: n, samples over all workers.
        greatest: the greatest of all workers' riders.
        cost: what it took to count them.
        lasting: True: every step minimises the same function.

    Raises:
        ValueError: workers hold different numbers of samples, no samples, or samples without any
            weight.
    """

    lasting = True

    def __init__(
        self, objective: Objective, model: FlatModel, workers: Workers, rider: int = 0
    ) -> None:
        self.model = model
        self._objective, self._workers = objective, workers
        n, first = objective.samples, workers.rank
        own = range(n * first // workers.world, n * (first + 1) // workers.world)
        weight = objective.weight(own if objective.everywhere else range(n))
        told = [n, weight, objective.weighted, rider]
        counted = workers.gather_numbers(told, "sample counts")
        counts, self.cost = [int(n) for n, *_ in counted.result], counted.cost
        self._weight = sum(weight for _, weight, *_ in counted.result)
        self.greatest = int(max(rider for *_, rider in counted.result))
        self._weighted = any(weighted for _, _, weighted, _ in counted.result)
        if self._weighted:
            objective.weigh()
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
        if not self._weight > 0:
            raise ValueError(f"loss: expected weights with a sum > 0, got {self._weight}")

    def full(self) -> Samples:
        """This worker's share of all samples."""
        first, last = self._starts[self._workers.rank : self._workers.rank + 2]
        offset = 0 if self._objective.everywhere else first
        return self._samples(range(first - offset, last - offset), self._weight)

    def batch(self, numbers: Tensor, *, replicated: bool) -> Evaluation[Samples]:
        """Samples of these numbers among all; this worker's part of them, or all on each worker."""
        if self._objective.everywhere:
            mine = numbers if replicated else self._share(numbers)
        else:
            first, last = self._starts[self._workers.rank : self._workers.rank + 2]
            mine = numbers[(numbers >= first) & (numbers < last)] - first
        gathers = replicated and not self._objective.everywhere
        weighed = self._weigh(mine, numbers, alone=replicated and not gathers)
        if gathers:
            return self._gathered(mine, numbers, weighed.result).after(weighed)
        return Evaluation(self._samples(mine, weighed.result)).after(weighed)

    def _weigh(self, mine: Tensor, numbers: Tensor, *, alone: bool) -> Evaluation[float]:
        """The weight of a batch, ``numbers``, of which this worker weighs its part."""
        if not self._weighted:
            return Evaluation(float(len(numbers)))
        own = self._objective.weight(mine)
        summed = Evaluation([own]) if alone else self._workers.sum_numbers([own], "batch weights")
        if not summed.result[0] > 0:
            raise ValueError(
                f"curvature_batch: its {len(numbers)} samples have weights with the sum "
                f"{summed.result[0]:g}, expected > 0: draw more"
            )
        return Evaluation(summed.result[0], summed.cost)

    def _share(self, numbers: Tensor) -> Tensor:
        rank, world, size = self._workers.rank, self._workers.world, len(numbers)
        return numbers[size * rank // world : size * (rank + 1) // world]

    def _samples(self, indices: range | Tensor, total: float) -> Samples:
        chunks: Any = _Chunks(self._objective, indices)
        if isinstance(indices, Tensor):
            chunks = list(chunks)  # fetched once: a batch is gone through many times
        return Samples(self.model, self._objective.loss, chunks, total)

    def _gathered(self, mine: Tensor, numbers: Tensor, total: float) -> Evaluation[Samples]:
        """The batch, every worker having sent the rest what it holds of it."""
        ends = zip(self._starts, self._starts[1:], strict=False)
        held = [int(((numbers >= a) & (numbers < b)).sum()) for a, b in ends]
        own = self._objective.rows(mine)
        if not all(isinstance(part, Tensor) for part in own):
            raise TypeError("data: a replicated batch of own samples must be of tensors")
        inputs, targets = (_gather_rows(part, held, self._workers) for part in own)
        size = self._objective.chunk
        chunks = list(zip(inputs.result.split(size), targets.result.split(size), strict=True))
        samples = Samples(self.model, self._objective.loss, chunks, total)
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
