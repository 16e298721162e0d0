"""What is trained on speech: every line of the tables as a recipe with flags."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.recipes import Recipe, thinwire, totals
from benchmarks.runner import Cell
from benchmarks.speech.corpora import data_flags, folder
from thinwire.report import load_run
from thinwire.report.run import number

NAME = "speech"
SEEDS = (0, 1, 2)
FIGURES = ("frame_error", "cross_entropy", "phone_error")

ALONE = ("--workers", "1", "--exchange.code", "float32", "--exchange.start-samples", "0")
PARALLEL = ("--workers", "4")
BUFFERED = ("--exchange.double-buffer", "True")
NO_FEEDBACK = ("--exchange.error-feedback", "False")
PASSES = ("--epochs", "3")
PLAIN = (*PASSES, "--optimizer.adagrad", "none")
SIGMOID = (*PLAIN, "--model.activation", "sigmoid", "--optimizer.lr", "1.0")
RELU = (*PLAIN, "--optimizer.lr", "0.1")
LOW_RANK = (*PLAIN, "--optimizer.lr", "0.01", "--model.rank", "128", "--model.start", "{model}")
LOCAL = ("--local.every", "8", "--local.momentum", "0.3", "--exchange.start-samples", "0")
NEWTON = ("--workers", "4", "--hessian-free.iterations", "8")


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        table: the heading of the table.
        label: the line.
        flags: of ``thinwire train``.
        paper: what the paper has there, word error rate and training frame accuracy in per cent.
        recipe: of ``thinwire train``.
        corpus: one of ``corpora.MADE``.
        realigned: whether the corpus is aligned anew first, by the line without this.
    """

    table: str
    label: str
    flags: tuple[str, ...]
    paper: str = "-"
    recipe: str = "timit-onebit"
    corpus: str = "synthetic"
    realigned: bool = False

    def key(self, seed: int) -> str:
        """Return under which a run is stored."""
        return f"{self.table}, {self.label}, {self.corpus}, seed {seed}"

    def run(self, seed: int) -> Recipe:
        """Return the run of a seed; low-rank models begin with the trained ReLU baseline."""
        start = RELU_BASELINE.run(seed) if "{model}" in self.flags else None
        flags = (*data_flags(self.corpus), *self.flags)
        return Recipe(NAME, self.key(seed), self.recipe, flags, seed, start)

    def cell(self, seed: int) -> Cell:
        """Return the cell of a seed."""
        settings = {"recipe": self.recipe, "flags": list(self.flags), "corpus": self.corpus}
        settings |= {"realigned": self.realigned}
        return Cell(self.key(seed), settings, lambda _: self.measure(seed), seed=seed)

    def measure(self, seed: int) -> dict[str, Any]:
        """Train and decode; return the run's totals and the figures of the test folder."""
        folder(self.corpus)
        run = self.run(seed)
        if self.realigned:
            aligned = run.folder / "aligned"
            thinwire(["train", *run.words, "--out", str(run.folder / "first")])
            thinwire(["align", str(run.folder / "first"), "--out", str(aligned)])
            words = [*run.words, "--data.path", str(aligned), "--out", str(run.folder)]
            thinwire(["train", *words])
        else:
            run.measure(curve=False)
        thinwire(["decode", str(run.folder), *self._trained_on()])
        done = load_run(run.folder)
        assert done.decoding is not None, run.folder
        return {**totals(done), **{name: number(done.decoding, name) for name in FIGURES}}

    def _trained_on(self) -> list[str]:
        return ["--trained-on", str(folder(self.corpus) / "train")]


RELU_BASELINE = Row("S Table 2", "ReLU, baseline", (*RELU, *ALONE), "16.5 (62.8)")
NO_ADAGRAD = Row("S Table 2", "ReLU, + 1-bit", (*RELU, *PARALLEL), "16.6 (61.7)")
TABLE_2 = (
    Row("S Table 2", "sigmoid, baseline", (*SIGMOID, *ALONE), "16.5 (55.6)"),
    Row("S Table 2", "sigmoid, + 1-bit", (*SIGMOID, *PARALLEL), "16.3 (55.5)"),
    RELU_BASELINE,
    NO_ADAGRAD,
    Row("S Table 2", "ReLU, + double buffering", (*RELU, *PARALLEL, *BUFFERED), "16.6 (62.4)"),
    Row("S Table 2", "ReLU, no error feedback", (*RELU, *PARALLEL, *NO_FEEDBACK), "diverges"),
    Row("S Table 2", "low-rank, baseline", (*LOW_RANK, *ALONE), "17.6 (61.5)"),
    Row("S Table 2", "low-rank, + 1-bit", (*LOW_RANK, *PARALLEL)),
)


def _adagrad(place: str, *flags: str) -> tuple[str, ...]:
    return (*PASSES, "--optimizer.adagrad", place, *flags)


TABLE_3 = (
    Row("S Table 3", "smoothed, not parallel", _adagrad("smoothed", *ALONE), "16.5 (57.4)"),
    Row("S Table 3", "raw, not parallel", _adagrad("aggregate", *ALONE), "16.2 (58.2)"),
    Row("S Table 3", "partial, 4 workers", _adagrad("local", *PARALLEL), "16.1 (57.4)"),
    Row("S Table 3", "aggregate, 4 workers", _adagrad("aggregate", *PARALLEL), "15.8 (59.1)"),
    Row(
        "S Table 3",
        "aggregate, double buffering",
        _adagrad("aggregate", *PARALLEL, *BUFFERED),
        "15.8 (59.4)",
    ),
)


def _methods(corpus: str) -> Iterator[Row]:
    """Families side by side at the same passes; Hessian-free ones at 8 iterations."""
    own = {"corpus": corpus}
    yield Row("Families", "float32, AdaGrad", _adagrad("aggregate", *ALONE), **own)
    yield Row("Families", "1 bit, AdaGrad", _adagrad("aggregate", *PARALLEL), **own)
    yield Row("Families", "local steps of 8, 1 bit", (*RELU, *PARALLEL, *LOCAL), **own)
    for method in ("gauss-newton", "bicgstab"):
        flags = (*NEWTON, "--hessian-free.method", method)
        yield Row("Families", f"Hessian-free, {method}", flags, recipe="timit-hf", **own)
    if corpus != "synthetic":  # of synthetic speech the true boundaries are known
        flags = _adagrad("aggregate", *PARALLEL)
        yield Row("Families", "1 bit, AdaGrad, realigned", flags, realigned=True, **own)


FAMILIES = (*_methods("synthetic"), *_methods("Czech"))
ROWS = (*TABLE_2, *TABLE_3, *FAMILIES)
