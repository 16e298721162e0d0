"""The papers' tables on speech: frame accuracy and phone error in place of word error.

    python -m benchmarks.speech            (90 minutes on two quiet cores)

Every cell is ``thinwire train timit-onebit`` or ``timit-hf`` on 360-512x3-N, and then ``thinwire
decode``, seeds 0, 1 and 2. The synthetic corpus is made on the way; the Czech one needs two Debian
packages. At the end docs/speech-results.md is written.
"""

import sys
from collections.abc import Iterable

from benchmarks import store
from benchmarks.command import main
from benchmarks.runner import Benchmark, Cell
from benchmarks.speech.rows import FAMILIES, NAME, ROWS, SEEDS, TABLE_2, TABLE_3, Row
from benchmarks.store import Results
from benchmarks.tables import Table, markdown, mean_and_spread

HEADINGS = (
    *("", "phone error", "frame accuracy", "cross entropy (nats)", "training frame acc."),
    *("MB sent", "S: WER (frame acc.)"),
)


def cells(_: Results) -> list[Cell]:
    """Return all runs, the first seed of all lines first."""
    return [row.cell(seed) for seed in SEEDS for row in ROWS]


def lines(results: Results, rows: Iterable[Row]) -> list[list[str]]:
    """Return a table's lines: means over seeds, and their smallest and largest."""
    return [[row.label, *_measured(results, row), row.paper] for row in rows]


def _measured(results: Results, row: Row) -> list[str]:
    stored = [results[row.key(seed)] for seed in SEEDS if row.key(seed) in results]
    found = [run.measures for run in stored if run.error is None]
    if not found:
        return [f"not run: {stored[0].error}" if stored else "not run yet", *["-"] * 4]
    few = "" if len(found) == len(SEEDS) else f", {len(found)} of {len(SEEDS)} seeds"
    sent = [run["bytes_sent_per_worker"] / 1e6 for run in found]
    return [
        mean_and_spread([100 * run["phone_error"] for run in found]) + " %" + few,
        mean_and_spread([100 - 100 * run["frame_error"] for run in found]) + " %",
        mean_and_spread([run["cross_entropy"] for run in found]),
        mean_and_spread([100 - 100 * run["train_error"] for run in found]) + " %",
        f"{sum(sent) / len(sent):,.0f}",
    ]


def _groups() -> list[tuple[str, list[Row]]]:
    of_corpus = {
        corpus: [row for row in FAMILIES if row.corpus == corpus]
        for corpus in ("synthetic", "Czech")
    }
    return [
        ("S Table 2: quantising, double buffering, low rank", list(TABLE_2)),
        ("S Table 3: where AdaGrad divides", list(TABLE_3)),
        *((f"Both families, {corpus} speech", rows) for corpus, rows in of_corpus.items()),
    ]


def tables(results: Results) -> list[Table]:
    """Return all tables, once anything of them was run."""
    return [Table(title, HEADINGS, lines(results, rows)) for title, rows in _groups() if results]


def page(results: Results) -> str:
    """Return docs/speech-results.md."""
    last = max(results.values(), key=lambda run: run.date, default=store.Result("", date="-"))
    parts = "\n\n".join(
        f"## {title}\n\n{markdown(HEADINGS, lines(results, rows))}" for title, rows in _groups()
    )
    seeds = ", ".join(map(str, SEEDS))
    return f"""# The papers' tables on speech

Written by `make bench-speech`; do not edit. S is [Seide 2014], H is [He 2017]. A network of
360-512-512-512-N units (H's for TIMIT) learns the tied states of frames, three passes over half an
hour of synthetic speech of many voices in noise (N = 1485), or over the Czech corpus of two main
speakers ([speech.md](speech.md)). Means over seeds {seeds}, smallest and largest in brackets; one
learning rate for each kind of network, kept for all its lines. Phone error is that of a Viterbi
search with a phone bigram (`thinwire decode`) on test voices that training has not heard. S's own
figures are word error rates on Switchboard: only the order of lines can be compared. Last run:
{last.date}, {store.machine_words(last)}.

{parts}
"""


def write_page(results: Results) -> None:
    """Write docs/speech-results.md."""
    out = store.DOCS / "speech-results.md"
    out.write_text(page(results), encoding="utf-8")
    print(f"wrote {out}")


BENCHMARK = Benchmark(
    NAME, "benchmarks.speech", cells, tables, 60.0, ("recipe", "corpus"), finish=write_page
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
