"""What a folder holds: its utterances, and where their features and alignments are."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thinwire.data.kaldi.matrices import read_header, read_values
from thinwire.data.kaldi.opened import ArkFiles
from thinwire.data.kaldi.vectors import read_vector

FEATURES = "feats.scp"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance that has features and an alignment.

    Attributes:
        name: of the utterance.
        speaker: its speaker; its own name, where the folder tells no speakers.
        line: of feats.scp.
        features: number of the file with its features, and where they begin there.
        first: the first row that is its own.
        frames: how many are.
        alignment: number of the file with its alignment, and where that begins.
    """

    name: str
    speaker: str
    line: int
    features: tuple[int, int]
    first: int
    frames: int
    alignment: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A folder.

    Attributes:
        folder: where it is.
        files: with features and alignments.
        utterances: those that can be trained on, in the order of feats.scp.
        dimension: values of a frame.
        frames_of: how many frames each class has, int64 [classes].
        skipped: utterances that are left out: why, and which.
    """

    folder: Path
    files: ArkFiles
    utterances: tuple[Utterance, ...]
    dimension: int
    frames_of: NDArray[np.int64]
    skipped: dict[str, list[str]]

    @property
    def classes(self) -> int:
        """One more than the largest class number."""
        return len(self.frames_of)

    def counts_of(self, classes: int) -> NDArray[np.int64]:
        """Return how many frames each of so many classes has, int64 [classes].

        Raises:
            ValueError: there are more classes.
        """
        if self.classes > classes:
            raise ValueError(
                f"{self.folder}: expected class numbers below {classes}, got {self.classes - 1}"
            )
        return np.pad(self.frames_of, (0, classes - self.classes))

    def where(self, number: int) -> str:
        """Name an utterance and its line, for messages."""
        utterance = self.utterances[number]
        return f"{self.folder}/{FEATURES}: line {utterance.line}: {utterance.name}"

    def features(self, number: int) -> Tensor:
        """Read the features of an utterance, float32 [frames, dimension].

        Raises:
            ValueError: they are not what they were when the folder was opened, or not finite.
            OSError: they cannot be read.
        """
        utterance, where = self.utterances[number], self.where(number)
        opened = self.files.open(utterance.features[0])
        header = read_header(opened.file, opened.size, utterance.features[1], where)
        last = utterance.first + utterance.frames
        if header.columns != self.dimension or header.rows < last:
            raise ValueError(
                f"{where}: expected at least {last} frames of {self.dimension} values as "
                f"before, got {header.rows} of {header.columns}"
            )
        values = read_values(opened.file, header, where)[utterance.first : last]
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            frame = int(np.flatnonzero(~finite)[0])
            raise ValueError(
                f"{where}: expected finite features, got NaN or infinity in frame "
                f"{frame}; remove the line to leave the utterance out"
            )
        return torch.from_numpy(values)

    def alignment(self, number: int) -> Tensor:
        """Read the class numbers of an utterance, int64 [frames].

        Raises:
            ValueError: they are not what they were when the folder was opened.
            OSError: they cannot be read.
        """
        utterance = self.utterances[number]
        opened = self.files.open(utterance.alignment[0])
        opened.file.seek(utterance.alignment[1])
        where = f"{self.where(number)}: alignment"
        found = read_vector(opened.file, opened.size, utterance.frames, where)
        if found is None:
            raise ValueError(f"{where}: expected {utterance.frames} numbers as before")
        return torch.from_numpy(found)
