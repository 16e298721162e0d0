"""Time and bytes to a target over a thin wire, for every contender.

    python -m benchmarks.training [tune] [train] [speed]   (all three; speed needs root)
    python -m benchmarks.training --show                   (tables of what is stored, time left)
    ... [--tasks mnist transformer families] [--only NAME ...] [--rates 100mbit 1gbit] [--again]

What a minibatch does to the network does not depend on the wire, so the two are measured apart.
``tune`` tries every contender at every point of the same grid for a few steps, on an open wire.
``train`` takes the best point to the target, with three seeds. ``speed`` measures, on the throttled
network, what a step takes and sends: of the exact start and of the rest. Seconds to the target are
steps times seconds per step, each kind its own. Hessian-free iterations differ from each other, so
these contenders go to the target on every wire themselves.

Each cell is stored in benchmarks/results/training.json as soon as its workers are done; what is
there is not repeated unless ``--again`` is given. One contender's cells share one start of the
workers.
"""

import argparse
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import lab, record
from benchmarks.training_contenders import CONTENDERS
from benchmarks.training_jobs import STAGES, Job, expected_seconds, jobs, missing
from benchmarks.training_table import compact, show
from benchmarks.training_tasks import TASKS

NAME = "training"
HOSTS = 4


def on_loopback(command: list[str]) -> str | None:
    """Run the workers on this machine's loopback; the error, or None."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", str(HOSTS), *command, "--device", "none"]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words:
        launched = subprocess.Popen(
            torchrun, env=environment, stdout=words, stderr=words, start_new_session=True
        )
        try:
            code = launched.wait()
        finally:  # interrupted: the launcher ends its workers
            if launched.poll() is None:
                launched.terminate()
                launched.wait()
        words.seek(0)
        return reason(words) if code else None


def on_wire(network: lab.Network, command: list[str]) -> str | None:
    """Run the workers on the laboratory's hosts; the error, or None."""
    lines: list[str] = []
    done = lab.run(network, command, say=lines.append)
    return reason(lines) if done.code else None


def reason(lines: Iterable[str]) -> str:
    """The first error that workers told; torchrun's own comes after it.

    >>> reason(["Traceback", "ValueError: lr", "...ChildFailedError:"])
    'ValueError: lr'
    """
    said = [line.strip() for line in lines if re.search(r"\w+Error: .", line)]
    return (said or ["no message"])[0]


def measure(todo: Sequence[Job], network: lab.Network | None) -> None:
    """Cells of one contender, entered in the results; when interrupted, those that were done."""
    with tempfile.TemporaryDirectory() as folder:
        out, given = Path(folder) / "results.jsonl", Path(folder) / "jobs.json"
        given.write_text(json.dumps([job.to_json() for job in todo]), encoding="utf-8")
        command = ["-m", "benchmarks.training_worker", "--jobs", str(given), "--out", str(out)]
        before = record.load()
        try:
            error = on_loopback(command) if network is None else on_wire(network, command)
        finally:
            text = out.read_text(encoding="utf-8") if out.exists() else ""
            done = [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]
            load = [before, record.load()]
            for job, result in zip(todo, done, strict=False):
                enter(job, compact(result), load)
        if error is not None and len(done) < len(todo):
            print(f"{todo[len(done)].key}: {error}", flush=True)
            enter(todo[len(done)], {"error": error}, load)
            if rest := todo[len(done) + 1 :]:
                measure(rest, network)


def enter(job: Job, result: dict[str, Any], load: list[float]) -> None:
    """Store one cell."""
    command = (
        f"python -m benchmarks.training {job.stage} --tasks {job.task} --only {job.contender!r}"
    )
    record.enter(
        NAME, job.key, {"settings": job.to_json(), "command": command, "load": load, **result}
    )


def do_stage(arguments: argparse.Namespace, stage: str) -> None:
    """A launch for each contender and wire that something is missing of."""
    for contender in arguments.only:
        for rate in arguments.rates if stage == "speed" else [None]:
            todo = cells(arguments, [stage], [contender], [rate or "none"])
            if not todo:
                continue
            minutes = expected_seconds(record.read(NAME)["runs"], left(arguments)) / 60
            where = "" if rate is None else f" at {rate}"
            print(f"{stage}: {contender}{where}; about {minutes:.0f} minutes left", flush=True)
            if rate is None:
                measure(todo, None)
            else:
                with lab.lab(HOSTS, rate) as network:
                    measure(todo, network)


def cells(
    arguments: argparse.Namespace, stages: Sequence[str], only: Sequence[str], rates: Sequence[str]
) -> list[Job]:
    """What is to be measured of these."""
    runs = record.read(NAME)["runs"]
    wanted = itertools.chain.from_iterable(
        jobs(runs, stage, arguments.tasks, only, rates) for stage in stages
    )
    return list(wanted) if arguments.again else missing(runs, wanted)


def left(arguments: argparse.Namespace) -> list[Job]:
    """All that is to be measured."""
    return cells(arguments, arguments.stages, arguments.only, arguments.rates)


def main() -> int:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rates", nargs="+", default=["100mbit", "1gbit"])
    parser.add_argument("--again", action="store_true", help="repeat what is stored")
    parser.add_argument("--show", action="store_true", help="only print what is stored")
    arguments = parser.parse_args()
    arguments.stages = arguments.stages or list(STAGES)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # store what is done, as Ctrl-C does
    if set(arguments.stages) - set(STAGES):
        parser.error(f"STAGE: expected {', '.join(STAGES)}, got {' '.join(arguments.stages)}")
    if not arguments.show:
        for stage in arguments.stages:
            do_stage(arguments, stage)
    runs = record.read(NAME)["runs"]
    show(runs)
    todo = left(arguments)
    print(f"{len(todo)} cells missing, about {expected_seconds(runs, todo) / 60:.0f} minutes")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lab.LabError as error:
        print(f"training: {error}", file=sys.stderr)
        sys.exit(2)
