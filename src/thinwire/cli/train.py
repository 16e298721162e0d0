"""``thinwire train RECIPE``: alone, with --workers K, under torchrun or under Slurm."""

import json
import os
import re
import signal
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

from rich.console import Console
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import (
    ChildFailedError,
    ProcessFailure,
    record,
)

from thinwire.cli.usage import FailedError, UsageError, parse, user_errors
from thinwire.exchange import DifferentWorkersError
from thinwire.files import FileError
from thinwire.report import load_run, terminal_table, write_page
from thinwire.train import (
    Display,
    Job,
    Plan,
    Recipe,
    StopSignals,
    Workers,
    check_grid,
    detect_workers,
    find_recipe,
    make_plan,
    naming_lost_workers,
    prepare,
    recipe_names,
    train,
    worker_processes,
)
from thinwire.train.failure import leaving_at_once
from thinwire.train.former_fields import with_present_flags
from thinwire.train.local_workers import end_with_launcher, launch_local, launched_here
from thinwire.train.pretraining import all_samples
from thinwire.train.run_lock import locked
from thinwire.train.typed_fields import recipe_from

SECONDS_TO_STOP = 120  # in which workers that were told to stop write their checkpoint
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # a worker's exit codes after that
GOES_ON = "; once that is mended, the same command goes on from the last checkpoint"
USAGE = """usage: thinwire train RECIPE [--workers K] [--out DIR] [--seed N] [--data PATH]
                             [--resume auto|never|PATH] [--FIELD VALUE ...]

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
        check_grid(workers.world if workers else recipe.workers, recipe.model_parallel)
        console = None if workers is not None and workers.rank > 0 else Console()
        job = prepare(name, recipe, partial(console.print, markup=False) if console else _quiet)
    with ExitStack() as held:
        with user_errors():
            if console is not None and not launched_here():  # else the launcher holds the lock
                held.enter_context(locked(job.folder))
            plan = make_plan(job) if console else Plan()  # worker 0's counts
        if workers is not None or recipe.workers == 1 or plan.finished:
            return _work(job, plan, workers or Workers(), console)
        del job, plan  # they only had to prove that the workers can start
        return _launch(args, recipe)


def recipe_of(name: str, args: list[str]) -> tuple[str, Recipe]:
    """(short name, Recipe): the file's fields over the defaults, the flags over both."""
    with user_errors():
        short, fields = find_recipe(name)
    with user_errors(f"{name}: "):
        recipe = recipe_from(fields)
    if not args:
        return short, recipe
    with user_errors():
        present = with_present_flags(_spelt_out(args), fields)
    return short, parse(recipe, present, prog=f"thinwire train {name}")


def _quiet(_: str) -> None:
    """Say nothing."""


def _spelt_out(args: Iterable[str]) -> list[str]:
    """Arguments with ``--data``, which is short for ``--data.path``, in full.

    >>> _spelt_out(["--data", "folder", "--data=folder"])
    ['--data.path', 'folder', '--data.path=folder']
    """
    return [re.sub(r"^--data(?==|$)", "--data.path", argument) for argument in args]


def _work(job: Job, plan: Plan, workers: Workers, console: Console | None) -> int:
    """Be one worker."""
    stop = StopSignals()

    @record
    def work() -> None:
        timeout = timedelta(seconds=job.recipe.timeout)
        with ExitStack() as stack:
            stack.enter_context(naming_lost_workers(workers))
            with leaving_at_once():
                end_with_launcher()
                stack.enter_context(worker_processes(workers, timeout))
            stack.enter_context(stop)
            try:
                train(job, display_of(job, console), stop, plan)
            except DifferentWorkersError as error:
                if workers.rank > 0:
                    sys.exit(2)  # worker 0 has the same error, and says so
                raise UsageError(str(error)) from None
            except FileError as error:
                who = f"worker {workers.rank}: " if workers.world > 1 else ""
                raise FailedError(f"{who}{error}{GOES_ON}") from None

    try:
        work()
    except FailedError:
        if launched_here():
            return 1  # the launcher says it, of the worker that failed first
        raise
    if stop.agreed:
        return 128 + stop.agreed
    if console is not None:
        _finish(job.folder, console)
    return 0


def display_of(job: Job, console: Console | None) -> Display:
    """A display that knows how long the run is."""
    if job.recipe.algorithm == "hessian-free":
        iterations = job.recipe.hessian_free.iterations
        return Display(iterations, console, counter="step", metrics=job.task.metrics)
    samples = all_samples(job.recipe, len(job.dataset.train))
    return Display(samples, console, metrics=job.task.metrics)


def _finish(folder: Path, console: Console) -> None:
    """Report a finished run."""
    with user_errors():
        finished = load_run(folder)
        write_page([finished], folder / "report.html")
    console.print(terminal_table([finished]))
    where = f"run folder: {folder} (open {folder / 'report.html'})"
    console.print(where, soft_wrap=True, markup=False)


def _launch(args: list[str], recipe: Recipe) -> int:
    """Start worker processes with torch.distributed's elastic launcher and wait for them.

    It hands SIGTERM and Ctrl-C on to them and waits until they have written a checkpoint.
    """
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SECONDS_TO_STOP))
    try:
        launch_local(recipe.workers, ["train", *args], max_restarts=recipe.max_restarts)
    except ChildFailedError as failed:
        worker, failure = failed.get_first_failure()
        if failure.exitcode in STOPPED:
            return failure.exitcode
        if failure.exitcode == 2:
            return 2  # the worker has said what is to be mended
        print(f"\n{describe_failure(worker, failure)}", file=sys.stderr)
        return 1
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0


def describe_failure(worker: int, failure: ProcessFailure) -> str:
    """The failed worker's own error: one line, its traceback, or the signal that ended it."""
    if failure.exitcode < 0:
        return f"worker {worker} was killed by {signal.Signals(-failure.exitcode).name}"
    message = failure.error_file_data.get("message", failure.message)
    if isinstance(message, str):
        try:
            message = json.loads(message)
        except ValueError:
            return f"worker {worker} failed: {message}"
    text = str(message.get("message"))
    if text.startswith(f"{FailedError.__name__}: "):
        return text.partition(": ")[2]
    trace = message.get("extraInfo", {}).get("py_callstack", "").rstrip()
    return f"{trace}\n\nworker {worker} failed: {text}"
