"""Time and bytes to a target over a thin wire, for every contender.

    python -m benchmarks.training tune  [--tasks mnist transformer] [--only NAME ...] [--steps N]
    python -m benchmarks.training speed [--rates 100mbit 1gbit] [--steady 8] ...   (needs root)
    python -m benchmarks.training show

What a minibatch does to the network does not depend on the wire, so the two are measured apart.
``tune`` trains every contender at every point of the same grid on an open wire, until the target is
met. ``speed`` measures, on the throttled network, what a step takes and sends: of the exact start
and of the rest. Seconds to the target are steps times seconds per step, each kind its own; a
contender in ``DIRECT`` is trained to the target on the wire itself instead.

Results go to benchmarks/results/training.json after each run; what is there is not repeated unless
``--again`` is given.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import lab, record
from benchmarks.training_contenders import CONTENDERS, DIRECT, GRIDS, START, Rates
from benchmarks.training_table import best_point, compact, grid_key, show, speed_key
from benchmarks.training_tasks import TASKS

NAME = "training"
HOSTS = 4
SPEED_START = 4  # exact steps in a run that only measures speed; the first two are warm-up


def words(task: str, contender: str, rates: Rates, out: Path) -> list[str]:
    """The worker's command line."""
    command = ["-m", "benchmarks.training_worker", "--task", task, "--contender", contender]
    command += ["--lr", str(rates.lr), "--momentum", str(rates.momentum), "--out", str(out)]
    return command


def on_loopback(command: list[str]) -> str | None:
    """Run the workers on this machine's loopback; the error, or None."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", str(HOSTS), *command, "--device", "none"]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run(
        torchrun, check=False, env=environment, capture_output=True, text=True, errors="replace"
    )
    said = [line for line in done.stderr.splitlines() if "Error" in line]
    return (said or ["no message"])[-1] if done.returncode else None


def on_wire(network: lab.Network, command: list[str]) -> str | None:
    """Run the workers on the laboratory's hosts; the error, or None."""
    lines: list[str] = []
    done = lab.run(network, command, say=lines.append)
    said = [line for line in lines if "Error" in line]
    return (said or ["no message"])[-1] if done.code else None


def tune(arguments: argparse.Namespace) -> None:
    """Every contender at every point of the grid, to the target."""
    stored = record.read(NAME)["runs"]
    for task in arguments.tasks:
        for contender in arguments.only:
            for rates in GRIDS[task]:
                key = grid_key(task, contender, rates)
                if key in stored and not arguments.again:
                    continue
                print(key, flush=True)
                limit = ["--steps", str(arguments.steps)] if arguments.steps else []
                measure(key, task, contender, rates, None, limit)


def speed(arguments: argparse.Namespace) -> None:
    """Every contender's steps on every wire, with the rates that were best for it."""
    stored = record.read(NAME)["runs"]
    for rate in arguments.rates:
        with lab.lab(HOSTS, rate) as network:
            for task in arguments.tasks:
                for contender in arguments.only:
                    key = speed_key(task, contender, rate)
                    if key in stored and not arguments.again:
                        continue
                    print(key, flush=True)
                    rates = best_point(stored, task, contender) or GRIDS[task][0]
                    start = START if contender in DIRECT else SPEED_START
                    limit = ["--exact", str(start)]
                    if contender not in DIRECT:
                        limit += ["--steps", str(SPEED_START + arguments.steady)]
                    measure(key, task, contender, rates, network, limit)


def measure(
    key: str,
    task: str,
    contender: str,
    rates: Rates,
    network: lab.Network | None,
    limit: list[str],
) -> None:
    """One run, entered in the results."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [*words(task, contender, rates, out), *limit]
        before = record.load()
        error = on_loopback(command) if network is None else on_wire(network, command)
        entry: dict[str, Any] = {
            "settings": {
                "task": task,
                "contender": contender,
                "lr": rates.lr,
                "momentum": rates.momentum,
                "rate": lab.rate_text(network.rate) if network else None,
                "limit": limit,
            },
            "load": [before, record.load()],
            "command": f"python -m benchmarks.training {'tune' if network is None else 'speed'}"
            f" --tasks {task} --only '{contender}'",
        }
        if error is None:
            entry |= compact(json.loads(out.read_text(encoding="utf-8")))
        else:
            entry["error"] = error
    record.enter(NAME, key, entry)


def main() -> int:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["tune", "speed", "show"])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rates", nargs="+", default=["100mbit", "1gbit"])
    parser.add_argument("--steady", type=int, default=8, help="steps after the start, for speed")
    parser.add_argument("--steps", type=int, help="most steps of a run, for tuning")
    parser.add_argument("--again", action="store_true", help="repeat what is stored")
    arguments = parser.parse_args()
    if arguments.what == "tune":
        tune(arguments)
    elif arguments.what == "speed":
        speed(arguments)
    show(record.read(NAME)["runs"])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lab.LabError as error:
        print(f"training: {error}", file=sys.stderr)
        sys.exit(2)
