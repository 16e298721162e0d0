"""Does a calibrated prediction meet what is measured on thin wires?

    python -m benchmarks.planner_lab [--rates 100mbit 1gbit] [--workers 1 2 4] [--again]

Needs root (``benchmarks.lab``). For every number of hosts first ``thinwire plan --calibrate`` on as
many, whose wire is not throttled, one thread each: costs and start-ups. They share one machine's
processors, so it is another machine for every number of hosts. Then, for every rate, one epoch of
``mnist-onebit`` and of its dense twin over the throttled wire; measured steps/s stand beside what
is predicted from the calibration and the rate alone.
Results go to benchmarks/results/planner.json; ``--show`` prints the table of what is stored.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import lab, record
from benchmarks.planner import compare_run, run_table
from thinwire.plan import make_setting, read_profile
from thinwire.plan.units import parse_rate

NAME = "planner"
RECIPES = ("mnist-onebit", "mnist-dense")
FLAGS = ("--exchange.cold-start", "0", "--epochs", "1", "--log-every", "5")
FLAGS += ("--checkpoint-every", "inf", "--seed", "0")


def thinwire_on(network: lab.Network, *arguments: str) -> None:
    """``thinwire ARGUMENTS`` on every host; raises with its last words if that fails."""
    lines: list[str] = []
    done = lab.run(network, ["-m", "thinwire", *arguments], say=lines.append)
    if done.code:
        raise lab.LabError("\n".join(lines[-20:]))


def measure(rates: list[str], workers: list[int], *, again: bool) -> None:
    """Calibrate, run what is not stored yet, and store each comparison."""
    stored = record.read(NAME)["runs"]
    for hosts in workers:
        cells = {
            f"{hosts} hosts, {rate}, {recipe}": (rate, recipe)
            for rate in rates
            for recipe in RECIPES
        }
        missing = {key: cell for key, cell in cells.items() if again or key not in stored}
        if missing:
            _measure(hosts, missing)


def _measure(hosts: int, cells: dict[str, tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        profile = Path(name) / "profile.json"
        with lab.lab(hosts, "none") as network:
            thinwire_on(network, "plan", "--calibrate", "--profile", str(profile))
        for key, (rate, recipe) in cells.items():
            print(key, flush=True)
            before, folder = record.load(), Path(name) / key.replace(", ", "-")
            with lab.lab(hosts, rate) as network:
                thinwire_on(network, "train", recipe, *FLAGS, "--out", str(folder))
            bits = rate.replace("mbit", "Mbit/s").replace("gbit", "Gbit/s")
            setting = make_setting(read_profile(profile), bandwidth=parse_rate(bits))
            row = compare_run(folder, setting, bits)
            entry = {"command": f"thinwire train {recipe} {' '.join(FLAGS)}", "row": row}
            record.enter(NAME, key, {**entry, "load": [before, record.load()]})


def main() -> int:
    """Measure what is asked for and not there yet; print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rates", nargs="+", default=["100mbit", "1gbit"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--again", action="store_true", help="repeat runs that are stored")
    parser.add_argument("--show", action="store_true", help="only print what is stored")
    arguments = parser.parse_args()
    if not arguments.show:
        measure(arguments.rates, arguments.workers, again=arguments.again)
    print(run_table(run["row"] for run in record.read(NAME)["runs"].values()))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lab.LabError as error:
        print(f"planner: {error}", file=sys.stderr)
        sys.exit(2)
