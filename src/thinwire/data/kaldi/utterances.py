"""Utterances one after another, as a trained network takes them."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from thinwire.data.fields import DataFields
from thinwire.data.kaldi.cmvn import fit_norms
from thinwire.data.kaldi.corpus import Corpus
from thinwire.data.kaldi.folder import refuse, skipped_lines, speakers_of
from thinwire.data.kaldi.frames import splice
from thinwire.data.kaldi.index import read_corpus


class Utterances:
    """The utterances of a folder, in the order of feats.scp.

    Args:
        folder: with feats.scp.
        fields: ``splice`` and ``cmvn`` as in training.
        aligned: whether alignments are read; utterances without one are then left out.
        note: told of utterances that are left out.

    Attributes:
        corpus: what is in the folder.

    Raises:
        ValueError: naming file, line and utterance, for what does not fit.
        OSError: a file is missing or cannot be read.
    """

    def __init__(
        self, folder: Path, fields: DataFields, *, aligned: bool, note: Callable[[str], None]
    ) -> None:
        self.corpus: Corpus = read_corpus(folder, refuse, aligned=aligned)
        for line in skipped_lines(self.corpus):
            note(line)
        speakers = speakers_of(self.corpus)
        self._norms = fit_norms(self.corpus, speakers) if fields.cmvn == "speaker" else None
        self._neighbours = torch.arange(-fields.splice, fields.splice + 1)

    def __len__(self) -> int:
        return len(self.corpus.utterances)

    @property
    def values(self) -> int:
        """Values of a frame with its neighbours."""
        return len(self._neighbours) * self.corpus.dimension

    def inputs(self, number: int) -> Tensor:
        """Return the frames of an utterance with their neighbours, float32 [frames, values]."""
        features = self.corpus.features(number)
        if self._norms is not None:
            features = self._norms(features, number)
        frames = torch.arange(len(features))
        lengths = torch.full_like(frames, len(features))
        return features[splice(frames, lengths, self._neighbours)].flatten(1)
