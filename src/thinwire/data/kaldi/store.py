"""The features and class numbers of the utterances read last, in one block of memory."""

from collections import deque

import torch
from torch import Tensor

from thinwire.data.kaldi.cmvn import SpeakerNorms
from thinwire.data.kaldi.corpus import Corpus

_SHARE = 8  # no utterance may take more than this part of the memory


class FrameStore:
    """A ring of frames: what is read takes the place of what was read longest ago.

    Args:
        corpus: where frames are read from.
        memory: bytes.
        norms: what features go through as they are read.

    Attributes:
        corpus: the same.
        norms: the same.
        frames: of each utterance, int64 [utterances].
        window: frames of which all utterances have room beside those that are being replaced.

    Raises:
        ValueError: an utterance is too long for the memory.
    """

    def __init__(self, corpus: Corpus, memory: int, norms: SpeakerNorms | None) -> None:
        self.corpus, self.norms = corpus, norms
        self.frames = torch.tensor([utterance.frames for utterance in corpus.utterances])
        total, rows = int(self.frames.sum()), memory // (4 * corpus.dimension + 8 + 8)
        longest = int(self.frames.argmax())
        if total > rows and int(self.frames[longest]) > rows // _SHARE:
            raise ValueError(
                f"{corpus.where(longest)}: expected at most {rows // _SHARE} frames, an eighth of "
                f"data.memory_mb, got {int(self.frames[longest])}; split it or allow more memory"
            )
        self._rows = min(total, rows)
        self.window = total if total <= rows else rows - rows // _SHARE
        self._features = torch.empty(self._rows, corpus.dimension)
        self._classes = torch.empty(self._rows, dtype=torch.int64)
        self._bases = torch.full_like(self.frames, -1)  # -1: not here
        self._held: deque[int] = deque()  # in the order in which they lie in the ring
        self._end = 0

    def load(self, utterances: Tensor) -> Tensor:
        """Have utterances in memory.

        Args:
            utterances: int64 [u], of at most half a window together.

        Returns:
            The row of each one's first frame, int64 [u]; good until the next call.

        Raises:
            ValueError: features or alignments are broken.
            OSError: they cannot be read.
        """
        # What is loaded may push out others that are wanted; these are then the newest.
        while len(missing := utterances[self._bases[utterances] < 0]):
            for number in missing.tolist():
                self._read(number)
        return self._bases[utterances]

    def rows(self, rows: Tensor) -> Tensor:
        """Features by row, [*rows.shape, dimension]."""
        return self._features[rows]

    def classes(self, rows: Tensor) -> Tensor:
        """Class numbers by row."""
        return self._classes[rows]

    def _read(self, number: int) -> None:
        features, classes = self.corpus.features(number), self.corpus.alignment(number)
        if self.norms is not None:
            features = self.norms(features, number)
        base = self._room(len(features))
        self._features[base : base + len(features)] = features
        self._classes[base : base + len(features)] = classes
        self._bases[number] = base
        self._held.append(number)

    def _room(self, frames: int) -> int:
        """Make room in the ring, and return where."""
        base = self._end
        if base + frames > self._rows:
            self._drop(base, self._rows)
            base = 0
        self._drop(base, base + frames)
        self._end = base + frames
        return base

    def _drop(self, first: int, last: int) -> None:
        """Give up the utterances next in the ring that lie in these rows."""
        while self._held and first <= int(self._bases[self._held[0]]) < last:
            self._bases[self._held.popleft()] = -1
