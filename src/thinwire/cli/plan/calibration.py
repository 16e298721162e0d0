"""``thinwire plan --calibrate``: alone, with --workers K, or under torchrun or Slurm."""

import sys
from datetime import timedelta

import torch
from rich.console import Console
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record

from thinwire.cli.plan.fields import PlanFields
from thinwire.cli.train import describe_failure
from thinwire.cli.usage import UsageError, user_errors
from thinwire.models import build_model
from thinwire.plan import write_profile
from thinwire.plan.remarks import about_profile
from thinwire.train import Workers, detect_workers, worker_processes
from thinwire.train.calibrate import Workload, calibrate
from thinwire.train.local_workers import end_with_launcher, launch_local

TIMEOUT = timedelta(seconds=120)


def run_calibration(fields: PlanFields, args: list[str]) -> int:
    """Measure and write the profile; returns the exit code."""
    with user_errors():
        workers = detect_workers()
        counts = fields.worker_counts if fields.workers else [1]
        sizes = fields.sub_batches
    if len(counts) != 1:
        raise UsageError(f"--workers: with --calibrate expected one number, got {fields.workers}")
    if workers is None and counts[0] > 1:
        return _launch(args, counts[0])
    worker = workers or Workers()

    def work() -> None:
        end_with_launcher()
        with worker_processes(worker, TIMEOUT):
            profile = calibrate(fields.profile.stem, _workload(fields, max(sizes)), sizes)
        if worker.rank == 0:
            with user_errors():
                write_profile(profile, fields.profile)
            console = Console(markup=False)
            for line in [*about_profile(profile), f"wrote {fields.profile}"]:
                console.print(line, soft_wrap=True)

    # A launched worker leaves its error where the launcher finds it.
    (work if workers is None else record(work))()
    return 0


def _workload(fields: PlanFields, samples: int) -> Workload:
    inputs, *hidden, classes = fields.layers
    model = build_model(inputs, hidden, classes, fields.activation, seed=0)
    generator = torch.Generator().manual_seed(0)
    return Workload(
        model,
        torch.randn(samples, inputs, generator=generator),
        torch.randint(classes, (samples,), generator=generator),
        adagrad=fields.adagrad,
        bucket_mb=fields.bucket_mb,
    )


def _launch(args: list[str], workers: int) -> int:
    """Start worker processes, each with its share of the processors."""
    try:
        launch_local(workers, ["plan", *args])
    except ChildFailedError as failed:
        worker, failure = failed.get_first_failure()
        if failure.exitcode == 2:
            return 2  # the worker has said what is to be mended
        print(f"\n{describe_failure(worker, failure)}", file=sys.stderr)
        return 1
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0
