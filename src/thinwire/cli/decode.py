"""``thinwire decode RUN FOLDER``: how well a trained network recognises phones."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thinwire.cli.acoustic import Acoustic, Fields, acoustic, arguments
from thinwire.cli.usage import user_errors
from thinwire.data.kaldi.corpus import Corpus
from thinwire.files import write_atomically
from thinwire.report import EventLog
from thinwire.report.events import EVENTS_FILE
from thinwire.speech.classes import FILE, read_classes
from thinwire.speech.decode import Decoder, phone_errors
from thinwire.speech.folding import fold, is_timit
from thinwire.speech.viterbi import NEVER
from thinwire.train.run_lock import locked

USAGE = """usage: thinwire decode RUN [FOLDER] [--out DIR] [--trained-on FOLDER]
                       [--bigram-scale X] [--phone-penalty Y]

Finds the phones of FOLDER (by default the run's test folder) by a Viterbi search with a phone
bigram of the training folder, and tells the phone error beside the errors of frames. With --out it
writes DIR/phones.txt: a line for each utterance, as Kaldi's texts. The run's report shows the
phone error from then on."""


@dataclass(frozen=True, kw_only=True)
class DecodeFields(Fields):
    """How phones are found."""

    bigram_scale: float = 1.0
    """What the logarithms of phone pairs' probabilities are multiplied by."""
    phone_penalty: float = 0.0
    """What each phone costs; a larger penalty makes them fewer."""

    def __post_init__(self) -> None:
        if not 0 <= self.bigram_scale < math.inf:
            raise ValueError(f"bigram_scale: expected a number >= 0, got {self.bigram_scale}")
        if not math.isfinite(self.phone_penalty):
            raise ValueError(f"phone_penalty: expected a finite number, got {self.phone_penalty}")


@dataclass
class Result:
    """What was counted, over utterances.

    Attributes:
        frames: all of them.
        right: those whose class the network finds.
        loss: sum of the cross entropies of frames, in nats.
        phones: in the alignments, without silence.
        errors: phones that are wrong, missing or too many.
        said: the phones that were found, by utterance.
    """

    frames: int = 0
    right: int = 0
    loss: float = 0.0
    phones: int = 0
    errors: int = 0
    said: dict[str, list[str]] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, float]:
        """The figures of an event."""
        return {
            "frames": self.frames,
            "frame_error": 1 - self.right / self.frames,
            "cross_entropy": self.loss / self.frames,
            "phones": self.phones,
            "phone_error": self.errors / max(1, self.phones),
        }


def run(args: list[str]) -> int:
    """Decode all utterances; returns the exit code."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    run_folder, folder, fields = arguments(args, USAGE, "decode", DecodeFields())
    with user_errors():
        found = acoustic(run_folder, folder, fields, aligned=True, default="test")
        decoder = _decoder(found, fields)
        result = _decode(found, decoder)
        if fields.out is not None:
            lines = [f"{name} {' '.join(phones)}\n" for name, phones in result.said.items()]
            fields.out.mkdir(parents=True, exist_ok=True)
            write_atomically(fields.out / "phones.txt", "".join(lines))
        with locked(run_folder), EventLog(run_folder / EVENTS_FILE) as log:
            log.write("decoding", folder=str(found.utterances.corpus.folder), **result.told)
    told = result.told
    print(
        f"{found.utterances.corpus.folder}: phone error {100 * told['phone_error']:.2f} % of "
        f"{result.phones} phones, frame error {100 * told['frame_error']:.2f} % and cross entropy "
        f"{told['cross_entropy']:.3f} nats of {result.frames} frames"
    )
    return 0


def _decoder(found: Acoustic, fields: DecodeFields) -> Decoder:
    corpus = found.trained
    classes = read_classes(corpus.folder)
    if classes is None:
        raise ValueError(f"{corpus.folder}: expected {FILE}, which names the phones, got none")
    if len(classes) < found.scorer.classes:
        raise ValueError(
            f"{corpus.folder / FILE}: expected {found.scorer.classes} classes, got {len(classes)}"
        )
    return Decoder.fit(
        classes, _alignments(corpus, len(classes)), fields.bigram_scale, fields.phone_penalty
    )


def _alignments(corpus: Corpus, classes: int) -> Iterator[NDArray[np.int64]]:
    corpus.counts_of(classes)  # refuses others
    for number in range(len(corpus.utterances)):
        yield corpus.alignment(number).numpy()


def _decode(found: Acoustic, decoder: Decoder) -> Result:
    """Go through the utterances."""
    result, utterances = Result(), found.utterances
    folding = fold if is_timit(decoder.classes.phones) else list
    utterances.corpus.counts_of(found.scorer.classes)  # refuses others
    unknown = len(decoder.classes) - found.scorer.classes  # without a frame in training
    for number in found.numbers("decoding"):
        posteriors = found.scorer.log_posteriors(
            utterances.inputs(number), utterances.corpus.where(number)
        )
        truth = utterances.corpus.alignment(number).numpy()
        of_all = np.pad(posteriors, ((0, 0), (0, unknown)), constant_values=NEVER)
        said = folding(decoder.phones(of_all))
        errors, phones = phone_errors(folding(decoder.classes.phones_in(truth)), said)
        result.said[utterances.corpus.utterances[number].name] = said
        result.errors += errors
        result.phones += phones
        result.frames += len(truth)
        result.right += int((posteriors.argmax(axis=1) == truth).sum())
        result.loss -= float(posteriors[np.arange(len(truth)), truth].sum(dtype=np.float64))
    return result
