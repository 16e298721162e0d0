"""A folder with the features of another one and alignments of its own."""

from pathlib import Path

from thinwire.data.kaldi.corpus import FEATURES, Corpus
from thinwire.data.kaldi.index import SPEAKERS
from thinwire.data.kaldi.lists import parse_place, read_lines
from thinwire.files import read_text, write_atomically
from thinwire.speech.classes import FILE


def write_sibling(corpus: Corpus, folder: Path) -> None:
    """Write feats.scp, and copy utt2spk and classes.txt where there are such.

    The features stay where they are: feats.scp names them by absolute paths.

    Args:
        corpus: the other folder.
        folder: this one; it has alignments already.

    Raises:
        FileError: a file cannot be written.
    """
    names = {utterance.name for utterance in corpus.utterances}
    lines = []
    for line in read_lines(corpus.folder / FEATURES):
        if line.name in names:
            place = parse_place(line)
            path = corpus.files.paths[corpus.files.number(place.path)].resolve()
            rows = "" if place.rows is None else f"[{place.rows[0]}:{place.rows[1]}]"
            lines.append(f"{line.name} {path}:{place.offset}{rows}\n")
    write_atomically(folder / FEATURES, "".join(lines))
    for name in (SPEAKERS, FILE):
        if (corpus.folder / name).exists():
            text = read_text(corpus.folder / name, limit=1 << 30, follow=True)
            write_atomically(folder / name, text)
