"""``thinwire forward RUN FOLDER``: write log-likelihoods of frames that Kaldi's decoders read."""

from thinwire.cli.acoustic import Fields, acoustic, arguments
from thinwire.cli.usage import UsageError, user_errors
from thinwire.data.kaldi import ArkWriter

USAGE = """usage: thinwire forward RUN FOLDER --out DIR [--trained-on FOLDER]

Writes DIR/loglikes.ark and DIR/loglikes.scp: for each utterance of FOLDER a matrix with a row for
each frame and a column for each class, log posterior minus log prior. Kaldi's decoders read it, for
example: latgen-faster-mapped final.mdl HCLG.fst scp:DIR/loglikes.scp ark:lat.ark"""


def run(args: list[str]) -> int:
    """Score all frames; returns the exit code."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    run_folder, folder, fields = arguments(args, USAGE, "forward", Fields())
    if folder is None or fields.out is None:
        raise UsageError(f"expected FOLDER and --out; {USAGE.splitlines()[0]}")
    with user_errors():
        found = acoustic(run_folder, folder, fields, aligned=False)
        corpus, frames = found.utterances.corpus, 0
        with ArkWriter(fields.out, "loglikes") as writer:
            for number in found.numbers("scoring"):
                inputs = found.utterances.inputs(number)
                scores = found.scorer(inputs, corpus.where(number))
                writer.matrix(corpus.utterances[number].name, scores)
                frames += len(inputs)
    print(
        f"wrote {fields.out / 'loglikes.scp'}: {len(corpus.utterances)} utterances, {frames} frames"
    )
    return 0
