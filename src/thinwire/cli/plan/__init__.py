"""``thinwire plan``: predict speed, efficiency, K-hat and H-hat, from a measured profile."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from thinwire.cli.plan.fields import PlanFields
from thinwire.cli.usage import UsageError, parse, user_errors
from thinwire.files import write_atomically
from thinwire.plan import Plan, make_plan, read_profile
from thinwire.plan.remarks import (
    about_convergence,
    about_setting,
    efficiency_warning,
    expectation,
)
from thinwire.plan.tables import LEGEND, Table
from thinwire.report import load_runs

SWITCHES = ("--calibrate", "--shared")


def run(args: list[str]) -> int:
    """Calibrate or plan; returns the exit code."""
    fields = parse(PlanFields(), with_switches(args), prog="thinwire plan")
    if fields.calibrate:
        from thinwire.cli.plan.calibration import run_calibration

        return run_calibration(fields, args)
    if not os.path.lexists(fields.profile):
        raise UsageError(
            f"{fields.profile}: no such profile; `thinwire plan --calibrate` makes one"
        )
    with user_errors():
        runs = load_runs(fields.fit)
        plan = make_plan(
            fields.setting(read_profile(fields.profile)),
            fields.worker_counts,
            fields.minibatches,
            model_parallel=fields.model_parallel,
            local=fields.local,
            runs=runs,
            goal=fields.goal(runs),
        )
        written = draw(plan, fields.out)
    print_plan(plan, written)
    return 0


def with_switches(args: list[str]) -> list[str]:
    """A bare switch means True.

    >>> with_switches(["--calibrate", "--shared", "False"])
    ['--calibrate', 'True', '--shared', 'False']
    """
    told = []
    for arg, following in itertools.pairwise([*args, ""]):
        told.append(arg)
        if arg in SWITCHES and following not in ("True", "False"):
            told.append("True")
    return told


def draw(plan: Plan, out: Path) -> list[Path]:
    """Write the figures; returns their files."""
    from thinwire.plan.figure import figures

    written = []
    for suffix, svg in figures(plan).items():
        path = out.with_name(f"{out.stem}{suffix}{out.suffix}")
        write_atomically(path, svg + "\n")
        written.append(path)
    return written


def print_plan(plan: Plan, written: Iterable[Path]) -> None:
    """Print tables, remarks and the names of the files that were written."""
    console = Console(markup=False)

    def say(lines: Iterable[str | None]) -> None:
        for line in lines:
            if line is not None:
                console.print(line, soft_wrap=True, highlight=False)

    console.print(about_setting(plan.setting), soft_wrap=True)
    for table in plan.speed_tables:
        console.print(_rich(table))
    console.print(LEGEND, highlight=False)
    say(expectation(plan.setting, prediction) for prediction in plan.predictions)
    say([efficiency_warning(plan.predictions)])
    for table in plan.target_tables:
        console.print(_rich(table))
    say([] if plan.times is None else about_convergence(plan.times))
    console.print(f"wrote {', '.join(map(str, written))}", soft_wrap=True)


def _rich(table: Table) -> RichTable:
    """Names of methods come from run folders and may look like rich's markup: [] is escaped."""
    title = escape(table.title)
    made = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in table.header:
        made.add_column(escape(heading), justify="right" if heading else "left")
    for row in table.rows:
        made.add_row(*map(escape, row))
    return made
