"""The corpora of this benchmark: made on this machine when they are needed, and kept in runs/."""

from pathlib import Path

from benchmarks.recipes import RUNS, thinwire

HERE = RUNS / "speech-corpora"
# What ``thinwire data`` is told; half an hour of synthetic speech is 181,000 frames.
MADE = {
    "synthetic": ("synth", "--hours", "0.5", "--test-hours", "0.1"),
    "Czech": ("fillets",),
}


def folder(corpus: str) -> Path:
    """Return where a corpus is, made if need be.

    Raises:
        CellError: it cannot be made; with the last words of the command.
    """
    path = HERE / corpus.lower()
    if not (path / "train" / "feats.scp").exists():
        kind, *flags = MADE[corpus]
        thinwire(["data", kind, str(path), *flags])
    return path


def data_flags(corpus: str) -> tuple[str, ...]:
    """Return what names a corpus to ``thinwire train``."""
    path = HERE / corpus.lower()
    return ("--data.path", str(path / "train"), "--data.test", str(path / "test"))
