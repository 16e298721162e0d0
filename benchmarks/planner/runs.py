"""Predicted against measured steps/s of run folders, and what a step consists of.

A run is a folder that ``thinwire train`` wrote. Its seconds a step are those of the stretches
between step events after the cold start: their median, and their lower quartile, which is what
calibration takes too and leaves out stretches that other programs disturbed.
"""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.tables import Table, per_cent
from thinwire.plan import (
    Setting,
    method_of,
    minibatch_of,
    planned_methods,
    seconds_per_step,
)
from thinwire.plan.methods import step
from thinwire.plan.step import Step
from thinwire.report import load_run
from thinwire.report.run import number


def compare_run(folder: Path, setting: Setting, rate: str) -> dict[str, Any]:
    """Compare one run with its prediction; ``rate`` is what its network is called in tables."""
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
    """Return the seconds of a step by term, predicted and measured: exposed and hidden together."""
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


def terms_table(rows: list[dict[str, Any]]) -> Table:
    """Return what a step consists of, in ms, predicted / measured (the mean step)."""
    names = list(rows[0]["terms"])
    header = ["ms a step, predicted / measured", *names]
    cells = [
        [f"{row['method']}, {row['workers']} workers", *(_both(*row["terms"][n]) for n in names)]
        for row in rows
    ]
    return Table("What a step consists of", header, cells)


def _both(predicted: float, measured: float | None) -> str:
    told = "-" if measured is None else f"{1e3 * measured:.1f}"
    return f"{1e3 * predicted:.1f} / {told}"


def run_table(rows: Iterable[dict[str, Any]]) -> Table:
    """Return predicted and measured steps/s."""
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
            per_cent(row["deviation"]),
            f"{row['quartile']:.2f}",
            per_cent(row["deviation_quartile"]),
        ]
        for row in rows
    ]
    return Table("Predicted and measured steps/s, one line a run", header, cells)
