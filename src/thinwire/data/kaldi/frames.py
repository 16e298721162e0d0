"""Frames by number, each with its neighbours, as the trainer asks for them."""

import hashlib
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from thinwire.data.kaldi.store import FrameStore
from thinwire.data.source import content_digest


class FrameSource:
    """The frames of some utterances: a `RunSource` whose groups are speakers.

    Args:
        store: where frames come from.
        speakers: number of the speaker of each utterance of the store, int64.
        splice: how many neighbours each frame has on either side. Beyond the ends of its utterance
            they are copies of the first and the last frame.
        utterances: numbers in the store, int64 in rising order.
    """

    def __init__(
        self, store: FrameStore, speakers: Tensor, splice: int, utterances: Tensor
    ) -> None:
        self._store, self._speakers, self._utterances = store, speakers, utterances
        self._neighbours = torch.arange(-splice, splice + 1)
        self._frames = store.frames[utterances]
        self.ends = self._frames.cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Frames beside each other, the earliest first, in one row."""
        return (len(self._neighbours) * self._store.corpus.dimension,)

    @property
    def groups(self) -> Tensor:
        """The speaker of each utterance."""
        return self._speakers[self._utterances]

    @property
    def window(self) -> int:
        """How many frames are kept in memory."""
        return self._store.window

    @cached_property
    def identity(self) -> str:
        """A digest of the content, and of the names and lengths of all utterances."""
        digest = hashlib.sha256(content_digest(self).encode())
        for number in self._utterances.tolist():
            utterance = self._store.corpus.utterances[number]
            digest.update(f"{utterance.name} {utterance.frames}\n".encode())
        return digest.hexdigest()[:16]

    def part(self, runs: Tensor) -> "FrameSource":
        """Return the source of some utterances; all parts share one store."""
        splice = len(self._neighbours) // 2
        return FrameSource(self._store, self._speakers, splice, self._utterances[runs])

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Read some frames, every utterance they are in once."""
        runs, frames = self._place(numbers)
        inputs = torch.empty(len(numbers), *self.shape)
        targets = torch.empty(len(numbers), dtype=torch.int64)
        wanted, which = runs.unique(return_inverse=True)
        for first, last in self._that_fit(wanted):
            here = ((which >= first) & (which < last)).nonzero()[:, 0]
            bases = self._store.load(self._utterances[wanted[first:last]])
            base, run, frame = bases[which[here] - first], runs[here], frames[here]
            near = splice(frame, self._frames[run], self._neighbours)
            inputs[here] = self._store.rows(base[:, None] + near).flatten(1)
            targets[here] = self._store.classes(base + frame)
        return inputs, targets

    def targets_of(self, numbers: Tensor) -> Tensor:
        """Read class numbers alone."""
        runs, frames = self._place(numbers)
        targets = torch.empty(len(numbers), dtype=torch.int64)
        order = runs.argsort(stable=True)
        present, counts = runs[order].unique_consecutive(return_counts=True)
        for run, here in zip(present.tolist(), order.split(counts.tolist()), strict=True):
            found = self._store.corpus.alignment(int(self._utterances[run]))
            targets[here] = found[frames[here]]
        return targets

    def _place(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The utterance of each number, and its frame there."""
        runs = torch.searchsorted(self.ends, numbers, right=True)
        return runs, numbers - (self.ends - self._frames)[runs]

    def _that_fit(self, runs: Tensor) -> Iterator[tuple[int, int]]:
        """Cut runs into pieces of at most half a window each: places of the first and the last."""
        reached, first, begun = self._frames[runs].cumsum(0), 0, 0
        while first < len(runs):
            fitting = int(torch.searchsorted(reached, begun + self.window // 2, right=True))
            last = max(first + 1, fitting)
            yield first, last
            first, begun = last, int(reached[last - 1])


def splice(frames: Tensor, lengths: Tensor, neighbours: Tensor) -> Tensor:
    """Number the neighbours of frames, with copies of the first and last frame at the ends.

    >>> splice(torch.tensor([0, 4]), torch.tensor([5, 5]), torch.arange(-1, 2)).tolist()
    [[0, 0, 1], [3, 4, 4]]
    """
    near = frames[:, None] + neighbours
    return near.clamp(min=0).minimum(lengths[:, None] - 1)
