"""Finding the utterances of a folder, and everything that is wrong with it.

Features are not read for it, only their headers; alignments are read once and not kept.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BufferedReader
from pathlib import Path

import numpy as np

from thinwire.data.kaldi.corpus import FEATURES, Corpus, Utterance
from thinwire.data.kaldi.lists import Line, parse_place, read_lines
from thinwire.data.kaldi.matrices import read_header
from thinwire.data.kaldi.opened import ArkFiles
from thinwire.data.kaldi.vectors import CLASSES, read_vector

SPEAKERS, ALIGNMENTS = "utt2spk", "ali.scp"
_NAME = 1024  # the most bytes of a name in an ark file

Refuse = Callable[[str], None]
"""Told what is wrong with a folder, in one line; it raises, or takes a note of it."""


def read_corpus(folder: Path, refuse: Refuse, *, aligned: bool = True) -> Corpus:
    """Find the utterances of a folder.

    Args:
        folder: with feats.scp and the alignments, see docs/speech.md.
        refuse: told of everything that is wrong.
        aligned: whether alignments are read. Without them all utterances with frames are taken,
            and there are no classes.

    Raises:
        ValueError: a file is not what it should be, or no utterance is left.
        OSError: a file is missing or cannot be read.
    """
    index = _Index(folder, refuse)
    speakers = index.read_speakers()
    index.read_features(speakers)
    if aligned:
        index.read_alignments()
    return index.corpus(aligned)


class _Index:
    """What is known of a folder while its files are read."""

    def __init__(self, folder: Path, refuse: Refuse) -> None:
        self._folder, self._refuse = folder, refuse
        self._files = ArkFiles(folder)
        self._dimension = 0
        self._listed: set[str] = set()  # in feats.scp
        self._featured: dict[str, Utterance] = {}  # whose features can be read
        self._aligned: dict[str, tuple[int, int] | None] = {}  # None: cannot be used
        self._skipped: dict[str, list[str]] = {}
        self._frames_of = np.zeros(CLASSES, np.int64)

    def read_speakers(self) -> dict[str, str] | None:
        """Read utt2spk, if there is one."""
        path = self._folder / SPEAKERS
        if not path.exists():
            return None
        found: dict[str, str] = {}
        for line in read_lines(path):
            if not line.rest:
                self._refuse(f"{line.where}: expected an utterance and its speaker, got one word")
            if line.name in found:
                self._refuse(f"{line.where}: expected every utterance once, got it again")
            found[line.name] = line.rest
        return found

    def read_features(self, speakers: dict[str, str] | None) -> None:
        """Read feats.scp and the headers of the matrices it names."""
        for line in read_lines(self._folder / FEATURES):
            if line.name in self._listed:
                self._refuse(f"{line.where}: expected every utterance once, got it again")
                continue
            self._listed.add(line.name)
            if speakers is not None and line.name not in speakers:
                self._skip(f"no speaker in {SPEAKERS}", line.name)
                continue
            with self._refusing():
                speaker = line.name if speakers is None else speakers[line.name]
                found = self._utterance(line, speaker)
                if found.frames:
                    self._featured[line.name] = found
                else:
                    self._skip("no frames", line.name)

    def _utterance(self, line: Line, speaker: str) -> Utterance:
        place = parse_place(line)
        with _naming(line.where):
            number = self._files.number(place.path)
            opened = self._files.open(number)
        matrix = read_header(opened.file, opened.size, place.offset, line.where)
        first, last = place.rows or (0, matrix.rows - 1)
        if place.rows is not None and last >= matrix.rows:
            raise ValueError(
                f"{line.where}: expected rows [{first}:{last}], both included, of a matrix with "
                f"more than {last} rows, got one with {matrix.rows}"
            )
        self._dimension = self._dimension or matrix.columns
        if matrix.rows and matrix.columns != self._dimension:
            raise ValueError(
                f"{line.where}: expected frames of {self._dimension} values as above, "
                f"got {matrix.columns}"
            )
        features, frames = (number, place.offset), last + 1 - first
        return Utterance(line.name, speaker, line.number, features, first, frames, (-1, -1))

    def read_alignments(self) -> None:
        """Read ali.scp, or else every ali*.ark."""
        table = self._folder / ALIGNMENTS
        arks = sorted(self._folder.glob("ali*.ark"))
        if table.exists():
            for line in read_lines(table):
                with self._refusing():
                    self._align_listed(line)
        elif arks:
            for path in arks:
                with self._refusing():
                    self._align_all(path)
        else:
            raise ValueError(
                f"{self._folder}: expected alignments in {ALIGNMENTS} or ali*.ark, got none; "
                "ali-to-pdf writes them"
            )

    def _align_listed(self, line: Line) -> None:
        place = parse_place(line)
        if place.rows is not None:
            raise ValueError(f"{line.where}: expected no range of rows in an alignment")
        with _naming(line.where):
            number = self._files.number(place.path)
            opened = self._files.open(number)
        opened.file.seek(min(place.offset, opened.size))
        self._align(line.name, number, opened.file, opened.size, line.where)

    def _align_all(self, path: Path) -> None:
        """Go through an ark file: names, each with a vector behind it."""
        number = self._files.number(str(path.absolute()))
        opened = self._files.open(number)
        opened.file.seek(0)
        for name in _names(opened.file, path):
            self._align(name, number, opened.file, opened.size, f"{path}: {name[:80]}")

    def _align(self, name: str, number: int, file: BufferedReader, size: int, where: str) -> None:
        """Take up the alignment that stands where the file is."""
        if name in self._aligned:
            raise ValueError(f"{where}: expected one alignment for each utterance, got another")
        self._aligned[name] = None
        place, utterance = (number, file.tell()), self._featured.get(name)
        frames = -1 if utterance is None else utterance.frames
        values = read_vector(file, size, frames, where)
        if values is not None:
            self._aligned[name] = place
            counts = np.bincount(values)
            self._frames_of[: len(counts)] += counts
        elif utterance is not None:
            self._skip("an alignment of another length than the features", name)
        elif name not in self._listed:
            self._skip("an alignment but no features", name)

    def corpus(self, aligned: bool) -> Corpus:
        """Put together what can be used."""
        utterances = self._with_alignments() if aligned else list(self._featured.values())
        if not utterances:
            why = "; ".join(f"{len(names)} with {why}" for why, names in self._skipped.items())
            wanted = "features and an alignment of the same length" if aligned else "features"
            raise ValueError(
                f"{self._folder / FEATURES}: expected at least one utterance with {wanted}, got "
                f"none" + (f": {why}" if why else "")
            )
        classes = int(np.flatnonzero(self._frames_of)[-1]) + 1 if aligned else 0
        frames_of = self._frames_of[:classes].copy()
        return Corpus(
            self._folder, self._files, tuple(utterances), self._dimension, frames_of, self._skipped
        )

    def _with_alignments(self) -> list[Utterance]:
        """Give the utterances their alignments, and leave out those without one."""
        utterances = []
        for name, utterance in self._featured.items():
            alignment = self._aligned.get(name)
            if alignment is not None:
                utterances.append(replace(utterance, alignment=alignment))
            elif name not in self._aligned:
                self._skip("no alignment", name)
        return utterances

    def _skip(self, why: str, name: str) -> None:
        self._skipped.setdefault(why, []).append(name)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Tell of what is wrong with one line or one file."""
        try:
            yield
        except (ValueError, OSError) as error:
            self._refuse(str(error))


def _names(file: BufferedReader, path: Path) -> Iterator[str]:
    """Read the name in front of each value; whoever asks reads the values."""
    while True:
        begin, head = file.tell(), file.read(_NAME)
        name, space, _ = head.lstrip(b"\n").partition(b" ")
        if not head.strip():
            return
        if not space or not name or not name.isascii() or not name.decode().isprintable():
            raise ValueError(
                f"{path}: expected an utterance's name and a vector at byte {begin}, "
                f"got {head[:20]!r}"
            )
        file.seek(begin + head.index(b" ") + 1)
        yield name.decode()


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Have an error of opening a file name the line that names the file."""
    try:
        yield
    except OSError as error:
        raise type(error)(f"{where}: {error.strerror or error}: {error.filename or ''}") from error
