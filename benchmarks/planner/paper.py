"""The paper's speeds as the planner predicts them from the paper's own costs."""

import statistics
from collections.abc import Callable
from dataclasses import replace

from benchmarks.tables import Table, markdown, per_cent
from thinwire.plan import paper

BOUND = 0.15


def paper_tables() -> str:
    """Return both variants of the prediction for every cell, and what other readings give."""
    return "\n\n".join(markdown(table.headings, table.rows) for table in tables())


def tables() -> list[Table]:
    """Return the same as tables of the page of all results."""
    return [paper_table(), reading_table()]


def paper_table() -> Table:
    """Return the paper's cells, predicted from its costs alone and with row 1 x 1."""
    bare, full = paper.bare_costs(), paper.full_costs()
    header = ["", "N", "system", "measured", "eq. (3)-(4) alone", "", "with row 1 x 1", ""]
    rows = []
    for cell in paper.cells():
        buffered = "DB" if cell.double_buffer else "no DB"
        name = f"Table {cell.table}, {cell.data} x {cell.model}, {buffered}"
        told = [name, f"{cell.minibatch:,}", cell.system, f"{cell.measured / 1e3:.1f}"]
        for costs in (bare, full):
            speed = paper.predicted(cell, costs).samples_per_second
            told += [f"{speed / 1e3:.1f}", per_cent(paper.deviation(cell, costs))]
        rows.append(told)
    return Table("Every data-parallel cell", header, rows)


def reading_table() -> Table:
    """Return how the prediction depends on what the paper leaves open."""
    bare, full = paper.bare_costs(), paper.full_costs()
    spread = paper.predicted
    small = paper.EXCHANGE[0]
    readings: dict[str, Callable[[paper.Cell], float]] = {
        "eq. (3)-(4) alone": lambda c: paper.deviation(c, bare),
        "with row 1 x 1": lambda c: paper.deviation(c, full),
        "same, T_comm / Z = 3 ms": lambda c: (
            spread(c, full, comm=small).samples_per_second / c.measured - 1
        ),
        "same, the cost a step once for both halves": lambda c: paper.deviation(
            c, replace(full, exchange=full.exchange / (2 if c.double_buffer else 1))
        ),
        "same, no cost a step": lambda c: paper.deviation(c, replace(full, exchange=0.0)),
        "same, no cost a sample": lambda c: paper.deviation(c, replace(full, read=0.0)),
        "same, Table 5 without DB": lambda c: paper.deviation(
            replace(c, double_buffer=c.double_buffer and c.table == 4), full
        ),
    }
    rows = []
    for name, deviate in readings.items():
        found = [deviate(cell) for cell in paper.cells()]
        within = sum(abs(d) <= BOUND for d in found)
        worst = max(found, key=abs)
        middle = statistics.median(map(abs, found))
        rows.append([name, f"{within} of {len(found)}", per_cent(middle)[1:], per_cent(worst)])
    headings = ["reading", "within 15 %", "median", "worst"]
    return Table("Other readings of the paper", headings, rows)
