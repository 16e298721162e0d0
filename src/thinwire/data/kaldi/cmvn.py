"""Cepstral mean and variance normalisation: every speaker's features to mean 0 and variance 1."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thinwire.data.kaldi.corpus import Corpus

_FLOOR = 1e-10  # of a variance; what is smaller is of a value that never changes


@dataclass(frozen=True, eq=False)
class SpeakerNorms:
    """What is subtracted from features and what they are then multiplied by.

    Attributes:
        speakers: number of each utterance's speaker, int64 [utterances].
        mean: float32 [speakers, dimension].
        scale: float32 [speakers, dimension].
    """

    speakers: Tensor
    mean: Tensor
    scale: Tensor

    def __call__(self, features: Tensor, number: int) -> Tensor:
        """Normalise the features of an utterance, [frames, dimension]."""
        speaker = self.speakers[number]
        return (features - self.mean[speaker]) * self.scale[speaker]


def fit_norms(corpus: Corpus, speakers: Tensor) -> SpeakerNorms:
    """Find every speaker's mean and deviation, in one pass over all features.

    A value that never changes is shifted but not scaled.

    Args:
        corpus: whose features are read.
        speakers: number of each utterance's speaker, int64 [utterances].

    Raises:
        ValueError: features are broken, see `Corpus.features`.
        OSError: they cannot be read.
    """
    count = int(speakers.max()) + 1
    frames = torch.zeros(count, 1, dtype=torch.float64)
    sums = torch.zeros(2, count, corpus.dimension, dtype=torch.float64)
    for number, speaker in enumerate(speakers.tolist()):
        features = corpus.features(number).double()
        frames[speaker] += len(features)
        sums[0, speaker] += features.sum(dim=0)
        sums[1, speaker] += features.square().sum(dim=0)
    mean = sums[0] / frames
    variance = sums[1] / frames - mean.square()
    varies = variance > _FLOOR * (1 + mean.square())
    scale = torch.where(varies, variance.clamp(min=_FLOOR).rsqrt(), torch.ones(()))
    return SpeakerNorms(speakers, mean.float(), scale.float())
