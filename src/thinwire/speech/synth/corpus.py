"""Making a synthetic corpus, in two passes: speech and features, then classes and alignments."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thinwire.data.kaldi.writing import ArkWriter
from thinwire.files import write_atomically
from thinwire.needed import needed
from thinwire.speech.classes import write_classes
from thinwire.speech.features import FRAMES_A_SECOND
from thinwire.speech.synth.folder import PARTS, STATISTICS, check_folder, clear_folder
from thinwire.speech.synth.pool import fresh_processes
from thinwire.speech.synth.segments import Segments, state_frames
from thinwire.speech.synth.settings import Settings
from thinwire.speech.synth.shard import Made, Shard, Task, make_shard
from thinwire.speech.synth.statistics import page, unfinished_page
from thinwire.speech.synth.tally import Tally
from thinwire.speech.synth.text import divide, read_sentences
from thinwire.speech.synth.tying import Tying, contexts_of, tie
from thinwire.speech.synth.voices import TEST_VARIANTS, TRAIN_VARIANTS

SHARD = 32  # utterances
_PACKAGES = ("espeakng_loader", "soxr", "kaldi_native_fbank")
_HOUR = 3600 * FRAMES_A_SECOND  # frames

Progress = Callable[[float], None]


def check(out: Path, settings: Settings) -> list[str]:
    """Check everything that can be checked before any work.

    Returns:
        The sentences that there are to speak.

    Raises:
        MissingPackageError: a package of the extra is not installed.
        ValueError: the settings or the text will not do.
        RuntimeError: the text cannot be fetched.
        OSError: the folder or the text will not do.
    """
    for module in _PACKAGES:
        needed(module)
    check_folder(out, settings)
    return read_sentences(settings.text)


def make_corpus(
    out: Path, settings: Settings, sentences: list[str], progress: Progress
) -> tuple[float, float]:
    """Make a corpus: the same files of the same settings and sentences, whatever their ``jobs``.

    Args:
        out: the folder, which `check` has found to be good.
        settings: the user's.
        sentences: to speak, from `check`.
        progress: told the hours of speech made so far.

    Returns:
        Hours of speech, and the seconds that making them took.

    Raises:
        ValueError: eSpeak cannot speak the sentences.
        RuntimeError: a process failed.
        FileError: the disk refuses.
    """
    begin = time.monotonic()
    share = settings.held_out_hours / (settings.train_hours + settings.held_out_hours)
    texts = divide(sentences, share, settings.seed)
    clear_folder(out)
    write_atomically(out / STATISTICS, unfinished_page(settings, len(sentences)))
    hours = (settings.train_hours, settings.held_out_hours)
    parts = {part: Tally() for part in PARTS}

    def made() -> float:
        return sum(tally.frames for tally in parts.values()) / _HOUR

    for part, text, wanted in zip(PARTS, texts, hours, strict=True):
        _write_features(out / part, settings, text, wanted, parts[part], lambda: progress(made()))
    tying = tie(parts["train"].contexts, settings.classes)
    for part, tally in parts.items():
        _write_alignments(out / part, tally, tying)
    seconds = time.monotonic() - begin
    write_atomically(out / STATISTICS, page(settings, len(sentences), parts, tying, seconds))
    return made(), seconds


def _write_features(
    folder: Path,
    settings: Settings,
    text: list[str],
    hours: float,
    tally: Tally,
    progress: Callable[[], None],
) -> None:
    """Make the utterances of a part until they have so many hours, and write their features."""
    jobs = settings.jobs or os.cpu_count() or 1
    tasks = _tasks(settings, text, PARTS.index(folder.name))
    with (
        ArkWriter(folder, "feats") as writer,
        closing(fresh_processes(make_shard, tasks, jobs)) as shards,
    ):
        for shard in shards:
            _check_any(shard, text)
            tally.cost(shard)
            for made in _until(shard, hours * _HOUR - tally.frames):
                writer.matrix(made.name, made.features)
                tally.utterance(made.name, made.speaker, made.segments)
            progress()
            if tally.frames >= hours * _HOUR:
                return


def _tasks(settings: Settings, text: list[str], part: int) -> Iterator[Task]:
    """Return the shards of a part without end; the text begins again after its last sentence."""
    variants = (TRAIN_VARIANTS, TEST_VARIANTS)[part]
    sentences = itertools.cycle(text)
    for first in itertools.count(0, SHARD):
        spoken = tuple(itertools.islice(sentences, SHARD))
        yield Task(spoken, first, variants, settings.noise, (settings.seed, part))


def _check_any(shard: Shard, text: list[str]) -> None:
    if not shard.utterances:
        raise ValueError(
            f"the text cannot be spoken as English: of {shard.left_out} sentences all have "
            f"unknown sounds or are too long, such as {text[0][:60]!r}"
        )


def _until(shard: Shard, frames: float) -> Iterator[Made]:
    """Yield utterances until they have so many frames."""
    for made in shard.utterances:
        if frames <= 0:
            return
        yield made
        frames -= len(made.features)


def _write_alignments(folder: Path, tally: Tally, tying: Tying) -> None:
    with ArkWriter(folder, "ali") as writer:
        for name, segments in zip(tally.names, tally.segments, strict=True):
            writer.vector(name, _classes_of(segments, tying))
    pairs = zip(tally.names, tally.speakers, strict=True)
    write_atomically(folder / "utt2spk", "".join(f"{name} {who}\n" for name, who in pairs))
    write_classes(folder, tying.phones, tying.positions)


def _classes_of(segments: Segments, tying: Tying) -> NDArray[np.int32]:
    """Return the class of each frame, [frames]."""
    classes = tying.class_of[contexts_of(segments.phones)]
    return np.repeat(classes.reshape(-1), state_frames(segments).reshape(-1))
