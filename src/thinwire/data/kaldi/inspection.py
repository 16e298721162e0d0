"""What a Kaldi folder holds and everything that is wrong with it, for people."""

from pathlib import Path

from thinwire.data.kaldi.corpus import Corpus
from thinwire.data.kaldi.folder import skipped_lines
from thinwire.data.kaldi.index import read_corpus

_HOUR = 360_000  # frames of 10 ms
_SHOWN = 20  # of what is wrong


def inspect_kaldi(folder: Path) -> tuple[list[str], int]:
    """Read a whole folder.

    Returns:
        Lines that describe it, and how many things are wrong with it.

    Raises:
        ValueError: a file is so broken that nothing can be told.
        OSError: a file is missing or cannot be read.
    """
    wrong: list[str] = []
    corpus = read_corpus(folder, wrong.append)
    for number in range(len(corpus.utterances)):
        try:
            corpus.features(number)
        except (ValueError, OSError) as error:
            wrong.append(str(error))
    lines = [*_contents(corpus), *skipped_lines(corpus), *wrong[:_SHOWN]]
    if len(wrong) > _SHOWN:
        lines.append(f"{len(wrong) - _SHOWN} more of the kind")
    lines.append(f"{len(wrong)} errors: training refuses them" if wrong else "no errors")
    return lines, len(wrong)


def _contents(corpus: Corpus) -> list[str]:
    frames = sum(utterance.frames for utterance in corpus.utterances)
    lengths = [utterance.frames for utterance in corpus.utterances]
    speakers = len({utterance.speaker for utterance in corpus.utterances})
    most = int(corpus.frames_of.argmax())
    empty = int((corpus.frames_of == 0).sum())
    return [
        f"{corpus.folder}: {len(lengths)} utterances of {speakers} speakers, {frames} frames of "
        f"{corpus.dimension} values, {frames / _HOUR:.2f} hours of 10 ms frames",
        f"utterances have {min(lengths)} to {max(lengths)} frames",
        f"{corpus.classes} classes, {empty} of them without frames; the largest, {most}, has "
        f"{100 * int(corpus.frames_of[most]) / frames:.1f} % of the frames",
    ]
