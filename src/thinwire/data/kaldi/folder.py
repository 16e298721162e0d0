"""From a recipe's [data] section to training and test frames of Kaldi folders."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from thinwire.data.fields import DataFields
from thinwire.data.kaldi.cmvn import fit_norms
from thinwire.data.kaldi.corpus import FEATURES, Corpus
from thinwire.data.kaldi.frames import FrameSource
from thinwire.data.kaldi.index import read_corpus
from thinwire.data.kaldi.lists import read_lines
from thinwire.data.kaldi.store import FrameStore

Note = Callable[[str], None]


def open_kaldi(fields: DataFields, note: Note) -> tuple[FrameSource, FrameSource | None, int]:
    """Open a folder, and the test frames if the fields say which they are.

    Args:
        fields: ``test`` is another folder, or a list of the utterances or speakers to test on.
        note: told of utterances that are left out.

    Returns:
        Training frames, test frames or None, and the number of classes in training.

    Raises:
        ValueError: naming file, line and utterance, for what does not fit.
        OSError: a file is missing or cannot be read.
    """
    corpus = read_corpus(Path(fields.path or ""), refuse)
    train, test = _frames(corpus, fields, note), None
    if fields.test is not None and Path(fields.test).is_dir():
        test = _frames(read_corpus(Path(fields.test), refuse), fields, note)
    elif fields.test is not None:
        listed = _listed(corpus, Path(fields.test))
        train, test = (
            train.part((~listed).nonzero()[:, 0]),
            train.part(listed.nonzero()[:, 0]),
        )
    return train, test, corpus.classes


def skipped_lines(corpus: Corpus) -> list[str]:
    """Say which utterances are left out and why, a line for each reason."""
    return [
        f"{corpus.folder}: {len(names)} left out for {why}: {names[0]}"
        + (" and others" if len(names) > 1 else "")
        for why, names in corpus.skipped.items()
    ]


def _frames(corpus: Corpus, fields: DataFields, note: Note) -> FrameSource:
    for line in skipped_lines(corpus):
        note(line)
    speakers = speakers_of(corpus)
    norms = fit_norms(corpus, speakers) if fields.cmvn == "speaker" else None
    store = FrameStore(corpus, fields.memory_mb << 20, norms)
    return FrameSource(store, speakers, fields.splice, torch.arange(len(corpus.utterances)))


def speakers_of(corpus: Corpus) -> Tensor:
    """Number the speakers, in the order of their names: int64 [utterances]."""
    names = sorted({utterance.speaker for utterance in corpus.utterances})
    numbers = {name: number for number, name in enumerate(names)}
    return torch.tensor([numbers[utterance.speaker] for utterance in corpus.utterances])


def _listed(corpus: Corpus, path: Path) -> Tensor:
    """Whether a list names each utterance or its speaker, bool [utterances]."""
    names = {line.name: line.where for line in read_lines(path)}
    known = {name for each in corpus.utterances for name in (each.name, each.speaker)}
    known |= {name for left in corpus.skipped.values() for name in left}
    unknown = next((where for name, where in names.items() if name not in known), None)
    if unknown is not None:
        raise ValueError(
            f"{unknown}: expected an utterance or a speaker of {corpus.folder / FEATURES}"
        )
    found = torch.tensor([u.name in names or u.speaker in names for u in corpus.utterances])
    if bool(found.all()) or not bool(found.any()):
        raise ValueError(
            f"{path}: expected some utterances to test on and others to train on, got "
            f"{int(found.sum())} of {len(found)}"
        )
    return found


def refuse(line: str) -> None:
    """Raise what is wrong with a folder."""
    raise ValueError(line)
