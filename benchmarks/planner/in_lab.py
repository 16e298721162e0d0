"""Does a calibrated prediction meet what is measured on thin wires?

    python -m benchmarks.planner.in_lab       (root; 10 minutes)

For every number of hosts first ``thinwire plan --calibrate`` on as many, whose wire is not
throttled, one thread each: costs and start-ups. They share one machine's processors, so it is
another machine for every number of hosts. Then, for every rate, one epoch of ``mnist-onebit`` and
of its dense twin over the throttled wire; measured steps/s stand beside what is predicted from the
calibration and the rate alone.
"""

import functools
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import main
from benchmarks.planner.runs import compare_run, run_table
from benchmarks.recipes import thinwire_in_lab
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Results, measured
from benchmarks.tables import Table
from thinwire.plan import make_setting, read_profile
from thinwire.plan.units import parse_rate

FLAGS = ("--exchange.start-samples", "0", "--epochs", "1", "--log-every", "5")
FLAGS += ("--checkpoint-every", "inf", "--seed", "0")


def cells(_: Results) -> list[Cell]:
    """Return both recipes on every wire, one number of hosts after another."""
    return [
        Cell(
            f"{hosts} hosts, {rate}, {recipe}",
            {"hosts": hosts, "rate": rate, "recipe": recipe},
            measure,
            command=f"thinwire train {recipe} {' '.join(FLAGS)}",
        )
        for hosts in (1, 2, 4)
        for rate in ("100mbit", "1gbit")
        for recipe in ("mnist-onebit", "mnist-dense")
    ]


@functools.cache
def calibrated(hosts: int) -> tempfile.TemporaryDirectory[str]:
    """Calibrate on so many hosts, once in this process; return the profile's folder."""
    folder = tempfile.TemporaryDirectory()
    words = ["plan", "--calibrate", "--profile", str(Path(folder.name) / "profile.json")]
    thinwire_in_lab(hosts, "none", words)
    return folder


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Train on a throttled wire and compare."""
    hosts, rate, recipe = settings["hosts"], settings["rate"], settings["recipe"]
    profile = Path(calibrated(hosts).name) / "profile.json"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / recipe
        thinwire_in_lab(hosts, rate, ["train", recipe, *FLAGS, "--out", str(folder)])
        bits = rate.replace("mbit", "Mbit/s").replace("gbit", "Gbit/s")
        setting = make_setting(read_profile(profile), bandwidth=parse_rate(bits))
        return compare_run(folder, setting, bits)


def tables(results: Results) -> list[Table]:
    """Return predicted and measured steps/s."""
    return [run_table(run.measures for run in measured(results).values())]


BENCHMARK = Benchmark("planner", "benchmarks.planner.in_lab", cells, tables, 50.0, ("hosts",))

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
