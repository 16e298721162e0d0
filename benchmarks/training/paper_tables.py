"""S Tables 2 and 3 on MNIST: what quantising, double buffering and AdaGrad's place do to accuracy.

    python -m benchmarks.training.paper_tables        (30 minutes on two quiet cores)

Every cell is ``thinwire train`` with the flags below, seeds 0, 1 and 2. At the end docs/results.md
is written. S measures word error rate; here it is test error, and training error in place of
training frame accuracy.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks import store
from benchmarks.command import main
from benchmarks.planner.paper import paper_tables
from benchmarks.recipes import Recipe
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Results
from benchmarks.tables import Table, markdown, mean_and_spread
from benchmarks.training import speeds

NAME = "tables"
SEEDS = (0, 1, 2)

ALONE = ("--workers", "1", "--exchange.code", "float32", "--exchange.start-samples", "0")
# S's cold start, 24 of 309 hours, is thousands of minibatches; half a pass is 59 of ours.
ONE_BIT = ("--workers", "4", "--exchange.start-samples", "30000")
BUFFERED = ("--exchange.double-buffer", "True")
NO_FEEDBACK = ("--exchange.error-feedback", "False")

TIMES = ("--epochs", "4", "--minibatch", "512", "--optimizer.lr-decay", "0.7")
PLAIN = (*TIMES, "--optimizer.adagrad", "none")
SIGMOID = (*PLAIN, "--model.activation", "sigmoid", "--optimizer.lr", "0.3")
FASTER = (*PLAIN, "--model.activation", "sigmoid", "--optimizer.lr", "1.0")
RELU = (*PLAIN, "--model.activation", "relu", "--optimizer.lr", "0.1")
# A trained model's factors are large: at the ReLU's own 0.1 they diverge (seed 0).
REFINED = (*PLAIN, "--model.activation", "relu", "--optimizer.lr", "0.01")
LOW_RANK = (*REFINED, "--model.rank", "64", "--model.start", "{model}")
ADAGRAD = (*TIMES, "--model.activation", "relu", "--optimizer.lr", "0.003")


@dataclass(frozen=True)
class Row:
    """One line of a table, for one setup.

    Attributes:
        setup: the column of S Table 2, or "AdaGrad" for Table 3.
        label: the line.
        flags: of ``thinwire train mnist-onebit``.
        paper: what S has there, word error rate and training frame accuracy in per cent.
    """

    setup: str
    label: str
    flags: tuple[str, ...]
    paper: str = "-"

    def key(self, seed: int) -> str:
        """Return under which a run is stored."""
        return f"{self.setup}, {self.label}, seed {seed}"

    def recipe(self, seed: int) -> Recipe:
        """Return the run of a seed; low-rank models begin with the trained ReLU baseline."""
        start = RELU_BASELINE.recipe(seed) if "{model}" in self.flags else None
        return Recipe(NAME, self.key(seed), "mnist-onebit", self.flags, seed, start)


RELU_BASELINE = Row("ReLU", "baseline", (*RELU, *ALONE), "16.5 (62.8)")
TABLE_2 = (
    Row("sigmoid", "baseline", (*SIGMOID, *ALONE), "16.5 (55.6)"),
    Row("sigmoid", "+ 1-bit", (*SIGMOID, *ONE_BIT), "16.3 (55.5)"),
    Row("sigmoid", "+ double buffering", (*SIGMOID, *ONE_BIT, *BUFFERED), "16.5 (55.3)"),
    Row("sigmoid", "1-bit, no error feedback", (*SIGMOID, *ONE_BIT, *NO_FEEDBACK), "diverges"),
    Row("sigmoid, lr 1", "baseline", (*FASTER, *ALONE)),
    Row("sigmoid, lr 1", "+ 1-bit", (*FASTER, *ONE_BIT)),
    RELU_BASELINE,
    Row("ReLU", "+ 1-bit", (*RELU, *ONE_BIT), "16.6 (61.7)"),
    Row("ReLU", "+ double buffering", (*RELU, *ONE_BIT, *BUFFERED), "16.6 (62.4)"),
    Row("ReLU", "1-bit, no error feedback", (*RELU, *ONE_BIT, *NO_FEEDBACK), "diverges"),
    Row("low-rank", "baseline", (*LOW_RANK, *ALONE), "17.6 (61.5)"),
    Row("low-rank", "+ 1-bit", (*LOW_RANK, *ONE_BIT)),
    Row("low-rank", "+ double buffering", (*LOW_RANK, *ONE_BIT, *BUFFERED), "17.7 (61.3)"),
)


def _adagrad(place: str, *flags: str) -> tuple[str, ...]:
    return (*ADAGRAD, "--optimizer.adagrad", place, *flags)


TABLE_3 = (
    Row("AdaGrad", "smoothed, not parallel", _adagrad("smoothed", *ALONE), "16.5 (57.4)"),
    Row("AdaGrad", "raw, not parallel", _adagrad("aggregate", *ALONE), "16.2 (58.2)"),
    Row("AdaGrad", "partial, 4 workers", _adagrad("local", *ONE_BIT), "16.1 (57.4)"),
    Row("AdaGrad", "smoothed, 4 workers", _adagrad("smoothed", *ONE_BIT)),
    Row("AdaGrad", "aggregate, 4 workers", _adagrad("aggregate", *ONE_BIT), "15.8 (59.1)"),
    Row(
        "AdaGrad",
        "aggregate, double buffering",
        _adagrad("aggregate", *ONE_BIT, *BUFFERED),
        "15.8 (59.4)",
    ),
    Row(
        "AdaGrad",
        "aggregate, no error feedback",
        _adagrad("aggregate", *ONE_BIT, *NO_FEEDBACK),
    ),
)
NONE = next(row for row in TABLE_2 if (row.setup, row.label) == ("ReLU", "+ 1-bit"))
HEADINGS = ("setup", "", "test error", "training error", "MB sent", "S: WER (frame acc.)")


def cells(_: Results) -> list[Cell]:
    """Return all runs."""
    return [row.recipe(seed).cell() for row in (*TABLE_2, *TABLE_3) for seed in SEEDS]


def lines(results: Results, rows: Iterable[Row]) -> list[list[str]]:
    """Return a table's lines: means over seeds, and their smallest and largest."""
    return [[row.setup, row.label, *_measured(results, row), row.paper] for row in rows]


def _measured(results: Results, row: Row) -> list[str]:
    stored = [results[row.key(seed)] for seed in SEEDS if row.key(seed) in results]
    found = [run.measures for run in stored if run.error is None]
    if not found:
        return [f"not run: {stored[0].error}" if stored else "not run yet", "-", "-"]
    few = "" if len(found) == len(SEEDS) else f", {len(found)} of {len(SEEDS)} seeds"
    per_cent = [
        mean_and_spread([100 * run[name] for run in found]) + " %" + few
        for name in ("test_error", "train_error")
    ]
    sent = [run["bytes_sent_per_worker"] / 1e6 for run in found]
    return [*per_cent, f"{sum(sent) / len(sent):,.0f}"]


def tables(results: Results) -> list[Table]:
    """Return S Tables 2 and 3, once anything of them was run."""
    both = (("Table 2", TABLE_2), ("Table 3", (NONE, *TABLE_3)))
    return [Table(title, HEADINGS, lines(results, rows)) for title, rows in both if results]


def commands(rows: Iterable[Row]) -> str:
    """Return what is typed for each line."""
    texts = []
    for row in rows:
        flags = " ".join(row.flags).replace("{model}", "runs/RELU-BASELINE")
        texts.append(f"# {row.setup}, {row.label}\nthinwire train mnist-onebit {flags} --seed S")
    return "```\n" + "\n".join(texts) + "\n```"


def page(results: Results) -> str:
    """Return docs/results.md."""
    last = max(results.values(), key=lambda run: run.date, default=store.Result("", date="-"))
    fast = store.measured(store.read(speeds.BENCHMARK.name))
    table_4, table_5 = speeds.double_buffer_table(fast), speeds.grid_table(fast)
    return f"""# The paper's tables, in our units

Written by `make tables`; do not edit. S is *1-Bit Stochastic Gradient Descent* (Seide et al.,
2014). S trains speech models for days and measures word error rate (WER); these are perceptrons on
MNIST, trained for four passes, so only the shape can be compared: which line is better than which.
Means over seeds {", ".join(map(str, SEEDS))}, smallest and largest in brackets; one learning rate
for each setup, kept for all its lines; "sigmoid, lr 1" is the sigmoid at a higher one. Lines with
1 bit: 4 workers, one of which trains alone on the first 30000 samples (S: on the first 24 hours).
Last run: {last.date}, {store.machine_words(last)}.

## Table 2: quantising and double buffering

784-512-512-512-10. Low-rank: the trained ReLU baseline, its layers replaced by two of rank 64 each
(S's SVD-LL), trained on. S: "Without it [error feedback], training quickly diverges."

{markdown(HEADINGS, lines(results, TABLE_2))}

## Table 3: where AdaGrad divides

ReLU; "none" is the line "+ 1-bit" of Table 2, at that table's learning rate.

{markdown(HEADINGS, lines(results, (NONE, *TABLE_3)))}

## Tables 4 and 5: speeds

Here (`make bench-speeds`), the network of Table 2, medians over stretches of a run and quartiles.
Two hosts that share two processors, without double buffering and with it. It can hide the wire, not
the exchange's arithmetic, which takes its processor from the computing here; S computed on GPUs:

{markdown(table_4.headings, table_4.rows)}

Grids of data x model workers on one machine with two processors, both of which a single worker
uses; no double buffering:

{markdown(table_5.headings, table_5.rows)}

The planner predicts all of S's own data-parallel cells from S's own cost measurements
([planner.md](planner.md); `make bench-planner`); speeds in 1000 samples/s.

{paper_tables()}

## Commands

{commands((*TABLE_2, *TABLE_3))}
"""


def write_page(results: Results) -> None:
    """Write docs/results.md."""
    out = store.DOCS / "results.md"
    out.write_text(page(results), encoding="utf-8")
    print(f"wrote {out}")


BENCHMARK = Benchmark(
    NAME, "benchmarks.training.paper_tables", cells, tables, 40.0, ("recipe",), finish=write_page
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
