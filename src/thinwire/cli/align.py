"""``thinwire align RUN``: move the boundaries of states to where a trained network sees them."""

import numpy as np

from thinwire.cli.acoustic import Acoustic, Fields, acoustic, arguments
from thinwire.cli.usage import UsageError, user_errors
from thinwire.data.kaldi import ArkWriter
from thinwire.speech.realign import Durations, durations, realign, stretches
from thinwire.speech.sibling import write_sibling

USAGE = """usage: thinwire align RUN [FOLDER] --out DIR [--trained-on FOLDER]

Aligns FOLDER (by default the one that RUN was trained on) anew by Viterbi: each utterance keeps its
states and their order. DIR becomes a folder to train on, with the features of FOLDER."""


def run(args: list[str]) -> int:
    """Align all utterances; returns the exit code."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    run_folder, folder, fields = arguments(args, USAGE, "align", Fields())
    if fields.out is None:
        raise UsageError(f"expected --out; {USAGE.splitlines()[0]}")
    with user_errors():
        found = acoustic(run_folder, folder, fields, aligned=True)
        corpus = found.utterances.corpus
        if fields.out.resolve() == corpus.folder.resolve():
            raise ValueError(f"--out: expected another folder than {corpus.folder}")
        known, moved, frames = _durations(found), 0, 0
        with ArkWriter(fields.out, "ali") as writer:
            for number in found.numbers("aligning"):
                before = corpus.alignment(number).numpy()
                scores = found.scorer(found.utterances.inputs(number), corpus.where(number))
                after = realign(scores, before, known)
                writer.vector(corpus.utterances[number].name, after)
                moved, frames = moved + int((after != before).sum()), frames + len(after)
        write_sibling(corpus, fields.out)
    print(f"wrote {fields.out}: {100 * moved / frames:.1f} % of {frames} frames have another class")
    return 0


def _durations(found: Acoustic) -> Durations:
    """Take durations from the alignments so far."""
    corpus, classes = found.utterances.corpus, found.scorer.classes
    frames_of, visits_of = corpus.counts_of(classes), np.zeros(classes, np.int64)
    for number in range(len(found.utterances)):
        visits_of += np.bincount(stretches(corpus.alignment(number).numpy()), minlength=classes)
    return durations(frames_of, visits_of)
