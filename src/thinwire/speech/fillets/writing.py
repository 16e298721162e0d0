"""Writing a part of the corpus as a folder of Kaldi files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thinwire.data.kaldi.writing import ArkWriter
from thinwire.files import write_atomically
from thinwire.speech.classes import SILENCE, Classes, write_classes
from thinwire.speech.fillets.corpus import Speech

MOST_SILENCE = 20
"""Frames of silence that an utterance keeps at either end."""


def kept_frames(speech: Speech, labels: NDArray[np.integer], classes: Classes) -> NDArray[np.bool_]:
    """Return which frames are kept: not those of long silence at the ends of utterances.

    Args:
        speech: the utterances.
        labels: the classes of all frames, [frames].
        classes: of all parts.

    Returns:
        bool [frames].
    """
    spoken = np.array([phone != SILENCE for phone in classes.phone_of])[labels]
    kept = np.ones(len(labels), bool)
    for begin, end in zip(speech.begins[:-1], speech.begins[1:], strict=True):
        at = begin + np.flatnonzero(spoken[begin:end])
        kept[begin : max(begin, at[0] - MOST_SILENCE)] = False
        kept[at[-1] + 1 + MOST_SILENCE : end] = False
    return kept


def write_part(
    folder: Path, speech: Speech, alignments: Sequence[NDArray[np.integer]], classes: Classes
) -> None:
    """Write features, alignments, speakers and classes.

    Args:
        folder: where; it is made if need be.
        speech: features and names of the utterances.
        alignments: the classes of the frames of each.
        classes: of all parts.

    Raises:
        FileError: a file cannot be written.
    """
    order = sorted(range(len(speech)), key=lambda number: speech.utterances[number].name)
    with ArkWriter(folder, "feats") as features, ArkWriter(folder, "ali") as labels:
        for number in order:
            name = speech.utterances[number].name
            features.matrix(name, speech.frames[speech.slice_of(number)])
            labels.vector(name, alignments[number])
    utterances = [speech.utterances[number] for number in order]
    speakers = "".join(f"{each.name} {each.speaker}\n" for each in utterances)
    write_atomically(folder / "utt2spk", speakers)
    write_classes(folder, classes.phone_of, classes.position_of)
