"""docs/results/index.html: all results on one page, the rules of measuring on top."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from benchmarks import (
    exchange_table,
    growth,
    methods,
    planner,
    record,
    speeds,
    tables,
    training_table,
)
from benchmarks.lab_figures import WIRES
from benchmarks.training_contenders import ENTRIES, GRIDS, NEWTON, NEWTON_GRID, SEEDS, START, words
from benchmarks.training_tasks import GOALS
from thinwire.report.thresholds import PERCENTS

TEMPLATE = Path(__file__).parent / "results_page.html"


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        title: above it.
        headings: of the columns.
        rows: texts; a short row is a name and why there is nothing.
        best: (row, column) of cells in bold.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        results: whose file it is made from; "" for what is computed.
        target: of make, that measures it.
        note: what to know when reading it.
        figures: names of the drawings it shows, those that there are.
        tables: below them.
    """

    title: str
    results: str
    target: str
    note: str
    figures: Sequence[str] = ()
    tables: Sequence[Table] = field(default_factory=list)


RULES = (
    "Same data order and seeds: every contender sees the same minibatches in the same order, and "
    f"what depends on chance is repeated with seeds {', '.join(map(str, SEEDS))}.",
    "Same tuning effort: four points of a grid for every contender, the same points for all of a "
    "family (they are listed below); the best after a fixed number of steps is taken. All that "
    f"begin with exact steps begin with {START}.",
    "Ratios are within one run, in which contenders take turns; never between runs.",
    "Figures are medians of at least three, with the smallest and largest in brackets; the tables "
    "of S have means of three seeds, and what was trained by recipes shows every seed.",
    "No cherry-picking: what was measured is shown, errors and missed targets included.",
    "Bold is the best of its column, whoever that is: where a peer wins, as PowerSGD can in bytes "
    "and SGD against Hessian-free methods in seconds on a fast network, the same table says so.",
    "Hosts are network namespaces of one machine whose processors they share: real hosts would "
    "compute faster while the wire stays as thin. Machine, versions, date, command and load are in "
    "the JSON files.",
)


def html(svgs: Mapping[str, str]) -> str:
    """The page.

    Args:
        svgs: the figures there are, by name, as SVG elements.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    found = [section for section in sections() if section.tables or has(section, svgs)]
    missing = [section for section in sections() if section not in found]
    files = {
        name: record.read(name) for name in dict.fromkeys(s.results for s in found if s.results)
    }
    return template.render(
        rules=RULES, grids=grids(), sections=found, missing=missing, svgs=svgs, about=about(files)
    )


def has(section: Section, svgs: Mapping[str, str]) -> bool:
    """Whether any of its figures was drawn."""
    return any(name in svgs for name in section.figures)


def about(files: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """For each file of results: where and when it was made."""
    rows = []
    for name, stored in files.items():
        machine = stored.get("machine") or {}
        if not isinstance(machine, Mapping):
            machine = {"processor": machine}
        dates = sorted(run["date"][:10] for run in stored["runs"].values() if "date" in run)
        days = f"{dates[0]} to {dates[-1]}" if dates else str(stored.get("date", "-"))
        rows.append([f"{name}.json", days, tables.machine_words(machine)])
    return rows


def grids() -> Table:
    """What every contender was tried with."""
    rows = []
    for task, goal in GOALS.items():
        sgd = [name for name in ENTRIES[task] if name not in NEWTON]
        newton = [name for name in ENTRIES[task] if name in NEWTON]
        for names, grid in ((sgd, GRIDS[task]), (newton, NEWTON_GRID)):
            if names:
                target = f"{goal.score} {goal.target:g}"
                points = "; ".join(map(words, grid))
                rows.append([task, target, ", ".join(names), points])
    return Table("Grids", ("task", "target", "contenders", "points"), rows)


def sections() -> list[Section]:
    """Everything, in the order of the page."""
    return [
        Section(
            "One exchange",
            "exchange",
            "bench-exchange",
            "Times faster than dense float32, and the limit: what the bytes would allow.",
            ("exchange_speedup", "exchange_sizes"),
            exchange_tables(record.read("exchange")["runs"]),
        ),
        Section(
            "Training to a target",
            "training",
            "bench-training",
            "The same script with the exchange swapped. Steps to the target on an open wire, three "
            "seeds; seconds and bytes a step on the throttled one; multiplied. Hessian-free "
            "methods went to the target on every wire.",
            ("training",),
            training_tables(record.read("training")["runs"]),
        ),
        Section(
            "Both families, method by method (H Figure 1)",
            "methods",
            "bench-methods",
            "H's perceptron, 4 workers on loopback, a fast network, which costs SGD least. Seeds "
            "side by side; a dash is an error not reached, bold the best median over seeds.",
            ("methods",),
            method_tables(record.read("methods")["runs"]),
        ),
        Section(
            "What a Hessian-free iteration consists of (H Figure 2)",
            "scaling",
            "bench-scaling",
            "H ran 32 nodes; here hosts share the processors of one machine. Up to 1024 workers by "
            "the planner, for a calibrated machine (make bench-profile).",
            ("scaling", "iteration"),
        ),
        Section(
            "The curvature minibatch (H Figure 3)",
            "minibatch",
            "bench-minibatch",
            "One seed a point.",
            ("minibatch",),
        ),
        Section(
            "How many nodes pay (S Figure 1)",
            "",
            "bench-profile",
            "T_calc and T_comm of equation (3), from the paper's costs and from a calibrated "
            "machine; up to 1024 workers by the planner, which is a prediction.",
            ("optimum", "planned"),
        ),
        Section(
            "Quantising, double buffering, AdaGrad (S Tables 2 and 3)",
            "tables",
            "tables",
            "MNIST in place of speech; only the shape can be compared. docs/results.md has the "
            "commands.",
            (),
            paper_tables(record.read("tables")["runs"]),
        ),
        Section(
            "Speeds (S Tables 4 and 5)",
            "speeds",
            "bench-speeds",
            "In our units, the median over stretches of a run and quartiles: two hosts on thin "
            "wires; grids of workers on one machine. Then what is predicted from the "
            "paper's own cost measurements, in 1000 samples/s; docs/planner.md says which "
            "assumption fails where.",
            (),
            [
                *speed_tables(record.read(speeds.NAME)["runs"]),
                Table("Every data-parallel cell", *planner.paper_rows()),
                Table("Other readings of the paper", *planner.reading_rows()),
            ],
        ),
        Section(
            "As workers are added",
            "growth",
            "bench-growth",
            "One worker's bytes and memory, measured on loopback, and its arithmetic alone; its "
            "bytes and its exchange up to 1024 workers as the planner has them.",
            ("growth",),
            growth_tables(record.read("growth")["runs"]),
        ),
        Section(
            "Bytes against loss",
            "frontier",
            "bench-frontier",
            "One seed a point; docs/codes.md.",
            ("frontier",),
        ),
    ]


def exchange_tables(runs: Mapping[str, Any]) -> list[Table]:
    """A table for each run at 8M values."""
    headings = ("contender", "ms", "times dense", "MB sent", "bytes allow", "of that reached")
    found = []
    for key, run in runs.items():
        if "results" not in run or run["settings"]["values"] != "8M":
            continue
        rows = exchange_table.rows(run)
        texts = [
            [
                row.name,
                training_table.ranged(tuple(1e3 * s for s in row.seconds), 1),  # type: ignore[arg-type]
                training_table.ranged((row.ratio, row.ratio_low, row.ratio_high), 1),
                f"{row.megabytes:.3f}",
                f"{row.factor:.1f}",
                f"{100 * row.reached:.0f} %",
            ]
            for row in rows
        ]
        columns = {1: [row.seconds[0] for row in rows], 3: [row.megabytes for row in rows]}
        found.append(Table(key, headings, texts, smallest(columns)))
    return found


def smallest(columns: Mapping[int, Sequence[float]]) -> frozenset[tuple[int, int]]:
    """The places of the smallest values; none in a column without a finite one.

    >>> sorted(smallest({1: [3.0, 2.0], 4: [1.0, 5.0]}))
    [(0, 4), (1, 1)]
    """
    return frozenset(
        (min(range(len(values)), key=values.__getitem__), column)
        for column, values in columns.items()
        if any(map(math.isfinite, values))
    )


def training_tables(runs: dict[str, Any]) -> list[Table]:
    """A table for each task and wire."""
    found = []
    for task in GOALS:
        for rate in training_table.stored_rates(runs):
            rows = training_table.table(runs, task, rate)
            known = [row for row in rows if isinstance(row, training_table.Row)]
            best = frozenset(
                (place, column)
                for column, what in ((4, "seconds"), (5, "megabytes"))
                for place, row in enumerate(rows)
                if isinstance(row, training_table.Row)
                and row.contender == training_table.best(known, what)
            )
            texts = [
                training_table.cells(row) if isinstance(row, training_table.Row) else row
                for row in rows
            ]
            title = training_table.title(task, WIRES.get(rate, rate))
            if texts:
                found.append(Table(title, training_table.HEADINGS, texts, best))
    return found


def growth_tables(runs: Mapping[str, Any]) -> list[Table]:
    """Of the last run: measured, planned and timed."""
    return [Table(*table) for run in list(runs.values())[-1:] for table in growth.tables(run)]


def method_tables(runs: dict[str, Any]) -> list[Table]:
    """A table for each training error."""
    found = []
    for percent in PERCENTS:
        medians = methods.medians(runs, percent)
        columns = dict(enumerate(medians, start=1))
        rows, best = methods.lines(runs, percent), smallest(columns)
        if rows:
            found.append(Table(f"To {percent} % training error", methods.HEADINGS, rows, best))
    return found


def speed_tables(runs: dict[str, Any]) -> list[Table]:
    """S Tables 4 and 5 as measured here, once anything of them was."""
    both = (
        ("Table 4, here: samples/s by minibatch size", speeds.double_buffer_rows(runs)),
        ("Table 5, here: samples/s by data x model", speeds.grid_rows(runs)),
    )
    return [Table(title, *table) for title, table in both if table[1]]


def paper_tables(runs: dict[str, Any]) -> list[Table]:
    """S Tables 2 and 3, once anything of them was run."""
    both: Iterable[tuple[str, Sequence[tables.Row]]] = (
        ("Table 2", tables.TABLE_2),
        ("Table 3", (tables.NONE, *tables.TABLE_3)),
    )
    return [Table(title, tables.HEADINGS, tables.lines(runs, rows)) for title, rows in both if runs]
