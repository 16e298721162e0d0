"""The planner against measurements: the paper's, and runs of one's own.

    python -m benchmarks.planner paper                  # docs/planner.md's tables, as Markdown
    python -m benchmarks.planner runs --profile P.json [--bandwidth 100Mbit/s] [--latency 200us]
                                      [--shared] RUN...  # predicted against measured steps/s,
                                                         # and what a step consists of

A run is a folder that ``thinwire train`` wrote. Its seconds a step are those of the stretches
between step events after the cold start: their median, and their lower quartile, which is what
calibration takes too and leaves out stretches that other programs disturbed. ``--shared``: all
workers ran on the machine that was calibrated, as in a laboratory of network namespaces. In a list
of runs of several networks, write ``RATE=FOLDER``, such as ``100Mbit/s=runs/w4``.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.record import markdown
from thinwire.plan import (
    Setting,
    make_setting,
    method_of,
    minibatch_of,
    paper,
    planned_methods,
    read_profile,
    seconds_per_step,
)
from thinwire.plan.methods import step
from thinwire.plan.step import Step
from thinwire.plan.units import parse_rate, parse_seconds
from thinwire.report import load_run
from thinwire.report.run import number

BOUND = {"paper": 0.15, "runs": 0.20}


def main() -> None:
    """Print one of the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("paper")
    runs = commands.add_parser("runs")
    runs.add_argument("--profile", type=Path, required=True)
    runs.add_argument("--bandwidth")
    runs.add_argument("--latency")
    runs.add_argument("--shared", action="store_true")
    runs.add_argument("--json", type=Path, help="where the rows go as JSON")
    runs.add_argument("runs", nargs="+", metavar="[RATE=]RUN")
    args = parser.parse_args()
    if args.command == "paper":
        print(paper_tables())
        return
    rows = []
    for text in args.runs:
        rate, _, folder = text.rpartition("=")
        rate = rate or args.bandwidth
        setting = make_setting(
            read_profile(args.profile),
            bandwidth=parse_rate(rate) if rate else None,
            latency=parse_seconds(args.latency) if args.latency else None,
            shared=args.shared,
        )
        rows.append(compare_run(Path(folder), setting, rate or "as calibrated"))
    print(run_table(rows), terms_table(rows), sep="\n\n")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def paper_tables() -> str:
    """Both variants of the prediction for every cell, and what other readings would give."""
    return "\n\n".join(markdown(*table) for table in (paper_rows(), reading_rows()))


def paper_rows() -> tuple[list[str], list[list[str]]]:
    """Heading and lines: the paper's cells, predicted from its costs alone and with row 1 x 1."""
    bare, full = paper.bare_costs(), paper.full_costs()
    header = ["", "N", "system", "measured", "eq. (3)-(4) alone", "", "with row 1 x 1", ""]
    rows = []
    for cell in paper.cells():
        buffered = "DB" if cell.double_buffer else "no DB"
        name = f"Table {cell.table}, {cell.data} x {cell.model}, {buffered}"
        told = [name, f"{cell.minibatch:,}", cell.system, f"{cell.measured / 1e3:.1f}"]
        for costs in (bare, full):
            speed = paper.predicted(cell, costs).samples_per_second
            told += [f"{speed / 1e3:.1f}", _percent(paper.deviation(cell, costs))]
        rows.append(told)
    return header, rows


def reading_rows() -> tuple[list[str], list[list[str]]]:
    """Heading and lines: how the prediction depends on what the paper leaves open."""
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
        within = sum(abs(d) <= BOUND["paper"] for d in found)
        worst = max(found, key=abs)
        middle = statistics.median(map(abs, found))
        rows.append([name, f"{within} of {len(found)}", _percent(middle)[1:], _percent(worst)])
    return ["reading", "within 15 %", "median", "worst"], rows


def compare_run(folder: Path, setting: Setting, rate: str) -> dict[str, Any]:
    """One run against its prediction; ``rate`` is what the network is called in tables."""
    run = load_run(folder)
    workers, minibatch = int(number(run.start, "workers") or 1), minibatch_of(run)
    name = method_of(run)
    method = next(m for m in planned_methods(1) if m.name == name)
    predicted = step(setting, method, minibatch, workers)
    paces = seconds_per_step(run)
    if predicted is None or len(paces) < 2:
        raise SystemExit(
            f"{folder}: needs three step events after the cold start; lower --log-every"
        )
    middle, quick = statistics.median(paces), statistics.quantiles(paces, n=4)[0]
    return {
        "run": run.label,
        "rate": rate,
        "method": name,
        "workers": workers,
        "minibatch": minibatch,
        "measured": 1 / middle,
        "quartile": 1 / quick,
        "predicted": 1 / predicted.seconds,
        "deviation": middle / predicted.seconds - 1,
        "deviation_quartile": quick / predicted.seconds - 1,
        "terms": terms(predicted, run.summary.get("times") if run.summary else None),
    }


def terms(predicted: Step, times: dict[str, Any] | None) -> dict[str, list[float | None]]:
    """Seconds of a step by term, predicted and measured: exposed and hidden together."""
    foretold = {
        "frm": predicted.variable,
        "post": predicted.post,
        "upd": predicted.upd,
        "comm": predicted.comm,
        "other": predicted.rest,
        "hidden": predicted.hidden,
        "step": predicted.seconds,
    }
    if times is None:
        return {name: [value, None] for name, value in foretold.items()}
    hidden = times["hidden"]
    measured = {**times, "hidden": sum(hidden.values())}
    return {
        name: [value, measured[name] + hidden.get(name, 0.0)] for name, value in foretold.items()
    }


def terms_table(rows: Iterable[dict[str, Any]]) -> str:
    """What a step consists of, in ms, predicted / measured (the mean step), as Markdown."""
    rows = list(rows)
    names = list(rows[0]["terms"])
    header = ["ms a step, predicted / measured", *names]
    cells = [
        [f"{row['method']}, {row['workers']} workers", *(_both(*row["terms"][n]) for n in names)]
        for row in rows
    ]
    return markdown(header, cells)


def _both(predicted: float, measured: float | None) -> str:
    told = "-" if measured is None else f"{1e3 * measured:.1f}"
    return f"{1e3 * predicted:.1f} / {told}"


def run_table(rows: Iterable[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    header = ["link", "method", "W", "N", "predicted steps/s"]
    header += ["measured (median)", "deviation", "measured (quartile)", "deviation"]
    cells = [
        [
            row["rate"],
            row["method"],
            str(row["workers"]),
            f"{row['minibatch']:,}",
            f"{row['predicted']:.2f}",
            f"{row['measured']:.2f}",
            _percent(row["deviation"]),
            f"{row['quartile']:.2f}",
            _percent(row["deviation_quartile"]),
        ]
        for row in rows
    ]
    return markdown(header, cells)


def _percent(value: float) -> str:
    return f"{100 * value:+.1f} %"


if __name__ == "__main__":
    main()
