"""Time and bytes of one exchange of gradients over a thin wire, for every contender.

    python -m benchmarks.exchange [--hosts 2 4] [--rates 100mbit 1gbit none] [--values 1M 8M 50M]
                                  [--repeats 5] [--only NAME ...] [--again]

Needs root (``benchmarks.lab``). One run is one number of hosts, one rate and one size; in it all
contenders take turns. Results go to benchmarks/results/exchange.json after each run; a run that is
there with the same settings is not repeated unless ``--again`` is given. ``--show`` prints the
tables of what is stored.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import lab, record
from benchmarks.contenders import CONTENDERS
from benchmarks.exchange_table import show
from benchmarks.exchange_worker import SHAPES

NAME = "exchange"


def key(hosts: int, rate: str, values: str) -> str:
    """Under which a run is stored."""
    return f"{hosts} hosts, {rate}, {values}"


def settings(arguments: argparse.Namespace, hosts: int, rate: str, values: str) -> dict[str, Any]:
    """What a run depends on."""
    return {
        "hosts": hosts,
        "rate": rate,
        "values": values,
        "shape": list(SHAPES[values]),
        "repeats": arguments.repeats,
        "contenders": arguments.only,
    }


def measure(network: lab.Network, run: dict[str, Any]) -> dict[str, Any]:
    """One run on a network that stands: what its worker 0 wrote, or the error."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.json"
        command = ["-m", "benchmarks.exchange_worker", "--values", run["values"]]
        command += ["--repeats", str(run["repeats"]), "--out", str(out), "--only"]
        lines: list[str] = []
        before = record.load()
        done = lab.run(network, [*command, *run["contenders"]], say=lines.append)
        if done.code:
            return {"error": next((x for x in reversed(lines) if "Error" in x), lines[-1])}
        return {
            "load": [before, record.load()],
            "results": json.loads(out.read_text(encoding="utf-8")),
        }


def main() -> int:
    """Measure what is asked for and not there yet; print the tables."""
    arguments = _parser().parse_args()
    stored = record.read(NAME)["runs"]
    for hosts in () if arguments.show else arguments.hosts:
        for rate in arguments.rates:
            wanted = {
                key(hosts, rate, values): settings(arguments, hosts, rate, values)
                for values in arguments.values
            }
            todo = {
                name: run
                for name, run in wanted.items()
                if arguments.again or stored.get(name, {}).get("settings") != run
            }
            if not todo:
                continue
            with lab.lab(hosts, rate) as network:
                for name, run in todo.items():
                    print(name, flush=True)
                    measured = measure(network, run)
                    command = f"python -m benchmarks.exchange --hosts {hosts} --rates {rate} "
                    command += f"--values {run['values']} --repeats {run['repeats']}"
                    entry = {"settings": run, "command": command, **measured}
                    record.enter(NAME, name, entry)
    show(record.read(NAME)["runs"])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", nargs="+", type=int, default=[4, 2])
    parser.add_argument("--rates", nargs="+", default=["100mbit", "1gbit", "none"])
    parser.add_argument("--values", nargs="+", choices=SHAPES, default=["1M", "8M", "50M"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--again", action="store_true", help="repeat runs that are stored")
    parser.add_argument("--show", action="store_true", help="only print what is stored")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lab.LabError as error:
        print(f"exchange: {error}", file=sys.stderr)
        sys.exit(2)
