"""``thinwire train RECIPE``: alone, with --workers K, under torchrun or under Slurm."""

import json
import os
import signal
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import (
    ChildFailedError,
    ProcessFailure,
    record,
)
from torch.distributed.run import parse_args
from torch.distributed.run import run as launch

from thinwire.cli.usage import UsageError, parse, user_errors
from thinwire.report import load_run, terminal_table, write_page
from thinwire.train import (
    Display,
    Job,
    Recipe,
    Workers,
    detect_workers,
    find_recipe,
    naming_lost_workers,
    prepare,
    recipe_names,
    train,
    worker_processes,
)

USAGE = """usage: thinwire train RECIPE [--workers K] [--out DIR] [--seed N] [--data DIR]
                             [--FIELD VALUE ...]

recipes: {recipes}; or a path to a .toml file
`thinwire train RECIPE --help` lists every field."""


def run(args: list[str]) -> int:
    """Train; returns the exit code."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE.format(recipes=", ".join(recipe_names())))
        return 0
    name, recipe = recipe_of(args[0], args[1:])
    with user_errors():
        workers = detect_workers()
        console = None if workers is not None and workers.rank > 0 else Console()
        job = prepare(name, recipe, console.print if console else lambda _: None)
    if workers is None and recipe.workers > 1:
        del job  # it only had to prove that the workers can start
        return _launch(args, recipe.workers)
    return _work(job, workers or Workers(), console)


def recipe_of(name: str, args: list[str]) -> tuple[str, Recipe]:
    """(short name, Recipe): the file's fields over the defaults, the flags over both."""
    with user_errors():
        short, fields = find_recipe(name)
    from_file = [part for key, value in fields.items() for part in _as_flag(key, value)]
    try:
        recipe = parse(Recipe(), from_file, prog=f"thinwire train {name}")
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None
    return short, parse(recipe, args, prog=f"thinwire train {name}")


def _as_flag(key: str, value: Any) -> Iterable[str]:
    values = value if isinstance(value, list) else [value]
    return [f"--{key.replace('_', '-')}", *map(str, values)]


def _work(job: Job, workers: Workers, console: Console | None) -> int:
    """Be one worker."""

    @record
    def work() -> None:
        timeout = timedelta(seconds=job.recipe.timeout)
        with naming_lost_workers(workers), worker_processes(workers, timeout):
            samples = job.recipe.epochs * len(job.dataset.train)
            train(job, Display(samples, console))

    work()
    if console is not None:
        _finish(job.folder, console)
    return 0


def _finish(folder: Path, console: Console) -> None:
    """Report a finished run."""
    finished = load_run(folder)
    write_page([finished], folder / "report.html")
    console.print(terminal_table([finished]))
    console.print(f"run folder: {folder} (open {folder / 'report.html'})", soft_wrap=True)


def _launch(args: list[str], workers: int) -> int:
    """Start worker processes with torch.distributed's elastic launcher and wait for them."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    command = ["--standalone", "--nproc-per-node", str(workers), "-m", "thinwire", "train", *args]
    try:
        launch(parse_args(command))
    except ChildFailedError as failed:
        worker, failure = failed.get_first_failure()
        print(f"\n{describe_failure(worker, failure)}", file=sys.stderr)
        return 2 if failure.exitcode == 2 else 1
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0


def describe_failure(worker: int, failure: ProcessFailure) -> str:
    """The failed worker's own error: its traceback, or the signal that ended it."""
    if failure.exitcode < 0:
        return f"worker {worker} was killed by {signal.Signals(-failure.exitcode).name}"
    message = failure.error_file_data.get("message", failure.message)
    if isinstance(message, str):
        try:
            message = json.loads(message)
        except ValueError:
            return f"worker {worker} failed: {message}"
    trace = message.get("extraInfo", {}).get("py_callstack", "").rstrip()
    return f"{trace}\n\nworker {worker} failed: {message.get('message')}"
