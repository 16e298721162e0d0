"""Building the corpus, stage after stage."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from thinwire.files import write_atomically
from thinwire.speech.fillets import rounds
from thinwire.speech.fillets.chain import STATES
from thinwire.speech.fillets.corpus import (
    HELD_OUT,
    Speech,
    make_speech,
    normalise,
    read_sounds,
    split,
    texts_to_say,
)
from thinwire.speech.fillets.dialogues import Line
from thinwire.speech.fillets.packages import read_packages
from thinwire.speech.fillets.phones import Words
from thinwire.speech.fillets.rounds import Part, make_part
from thinwire.speech.fillets.stages import Arrays, Stages, Tell
from thinwire.speech.fillets.statistics import PartFigures, RoundFigures, measure, page
from thinwire.speech.fillets.tying import Tying, untied
from thinwire.speech.fillets.writing import MOST_SILENCE, kept_frames, write_part

STATISTICS = "statistics.md"
WORK = ".work"

# Whether each round of Gaussians begins by dividing them.
_GAUSSIANS = (False, False, False, False, True, False, True, False, True, False)
_NETWORKS = 3
_TIED_NETWORKS = 2


@dataclass(frozen=True)
class Settings:
    """What a user may choose.

    Attributes:
        states: number of classes, tied states of phones in context.
    """

    states: int = 1000

    def __post_init__(self) -> None:
        if self.states < STATES:
            raise ValueError(
                f"states: expected {STATES} or more, one for each state of each phone, "
                f"got {self.states}"
            )


def build(
    out: Path,
    source: Path | None,
    settings: Settings,
    note: Callable[[str], None],
    tell: Tell,
) -> str:
    """Build the corpus; a rerun goes on where one stopped.

    Args:
        out: the folder to write to; it is made if need be.
        source: where the packages are, as `packages.read_packages` takes it.
        settings: the user's.
        note: told what is fetched.
        tell: told what is being done.

    Returns:
        The page of statistics, which is written to OUT/statistics.md, too.

    Raises:
        ValueError: a package or a sound in it is not as expected.
        OSError: a file is missing, or cannot be read or written.
        RuntimeError: the packages cannot be had, or a package of the extra is not installed.
    """
    files = read_packages(source, note)
    said, dropped = texts_to_say(files)
    stages = Stages(out / WORK, _digest(said, files), tell)
    sounds = stages.run("sounds", None, lambda share: read_sounds(said, files, share))
    raw = make_speech(said, sounds)
    if len(raw) < len(said):
        dropped["silent or too short for their phones"] = len(said) - len(raw)
    parts = _parts(raw)
    course = _Course(stages, parts["train"], parts["test"])
    course.begin(raw.part(split(raw.utterances)["train"]).frames)
    course.run(settings)
    measured = _write(out, parts, course)
    text = page(measured, course.figures, _remarks(dropped, len(course.tying.classes)))
    write_atomically(out / STATISTICS, text)
    return text


def _digest(said: Sequence[tuple[Line, Words]], files: Mapping[str, bytes]) -> bytes:
    """Return a digest of all that results depend on: texts, sounds, threads and this code."""
    digest = hashlib.sha256(repr((said, torch.get_num_threads())).encode())
    for line, _ in said:
        digest.update(hashlib.sha256(files[line.sound]).digest())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def _remarks(dropped: Mapping[str, int], classes: int) -> list[str]:
    """Return what the page says about how the corpus was built."""
    return [
        f"{classes} classes.",
        f"Held-out rooms: {', '.join(HELD_OUT)}.",
        f"Silence at either end of an utterance beyond {MOST_SILENCE} frames is cut off.",
        f"Built with {torch.get_num_threads()} threads; another number may give slightly other "
        "labels.",
        *(f"Not used: {count} utterances, {why}." for why, count in dropped.items()),
    ]


def _parts(raw: Speech) -> dict[str, Part]:
    """Return the parts of the corpus with normalised features."""
    speech = normalise(raw)
    chosen = split(raw.utterances)
    empty = [name for name, numbers in chosen.items() if not numbers]
    if empty:
        raise ValueError(f"expected utterances for all parts, got none for {', '.join(empty)}")
    return {name: make_part(speech.part(numbers)) for name, numbers in chosen.items()}


class _Course:
    """The course of the rounds.

    Args:
        stages: which keep the results.
        train: the training part.
        test: the held-out part.

    Attributes:
        figures: of all rounds so far.
        tying: the classes by now.
        found: the result of the last round.
    """

    def __init__(self, stages: Stages, train: Part, test: Part) -> None:
        self._stages, self._train, self._test = stages, train, test
        self.figures: list[RoundFigures] = []
        self.tying = untied()
        self.found: Arrays = {}

    def begin(self, log_mel: NDArray[np.float32]) -> None:
        """Find the first alignments, with features that are not normalised."""
        self.found = self._stages.run(
            "beginning", None, lambda _: rounds.begin(self._train, log_mel)
        )

    def run(self, settings: Settings) -> None:
        """Run all rounds behind the beginning."""
        for divided in _GAUSSIANS:
            self._gaussians(divided)
        for _ in range(_NETWORKS):
            self._network()
        self._tie(settings.states)
        for _ in range(_TIED_NETWORKS):
            self._network()

    def _gaussians(self, divided: bool) -> None:
        """Run a round with Gaussians, which are divided first or not."""
        self._run(
            "Gaussians",
            divided,
            lambda tell: rounds.gaussian_round(self._train, self._test, self.found, divided, tell),
        )

    def _network(self) -> None:
        """Run a round with a network."""
        seed = len(self.figures)
        self._run(
            "network",
            seed,
            lambda tell: rounds.network_round(
                self._train, self._test, self.found, self.tying, seed, tell
            ),
        )

    def _tie(self, classes: int) -> None:
        """Make classes of states in context."""
        tied = self._stages.run(
            "tying", classes, lambda _: rounds.tie(self._train, self.found, classes)
        )
        self.tying = Tying(np.asarray(tied["table"], np.int64))

    def _run(
        self, kind: str, settings: object, make: Callable[[Callable[[float], None]], Arrays]
    ) -> None:
        number = len(self.figures) + 1
        self.found = self._stages.run(f"{number:02}-{kind}", settings, make)
        moved, score, errors, phones = (
            float(self.found[name][0]) for name in ("moved", "score", "errors", "phones")
        )
        figures = RoundFigures(f"{number}: {kind}", moved, score, errors / max(1.0, phones))
        self.figures.append(figures)


def _write(out: Path, parts: Mapping[str, Part], course: _Course) -> dict[str, PartFigures]:
    """Align and write all parts; return their figures."""
    classes = course.tying.classes
    places = np.asarray(course.found["places"], np.int64)
    trained_on = np.asarray(course.found["labels"], np.int64)
    network = rounds.network_of(course.found, course.tying, parts["train"])
    transitions = parts["train"].chains.transitions(places)
    figures = {}
    for name, part in parts.items():
        if name != "train":
            scores = rounds.network_scores(network, part.speech, trained_on)
            places = part.chains.align(
                scores, transitions, lambda _: None, course.tying.of_chain
            ).places
        labels = rounds.labels_of(part, places, course.tying)
        right = rounds.heard(network, part.speech) == labels
        kept = kept_frames(part.speech, labels, classes)
        speech = part.speech.cut(kept)
        alignments = np.split(labels[kept], speech.begins[1:-1])
        write_part(out / name, speech, alignments, classes)
        figures[name] = measure(alignments, classes, len(kept), float(right[kept].mean()))
    return figures
