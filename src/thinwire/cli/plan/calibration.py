"""``thinwire plan --calibrate``: alone, with --workers K, or under torchrun or Slurm."""

import os
import sys
from datetime import timedelta

import torch
from rich.console import Console
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.run import parse_args
from torch.distributed.run import run as launch

from thinwire.cli.plan.fields import PlanFields
from thinwire.cli.train import describe_failure
from thinwire.cli.usage import UsageError, user_errors
from thinwire.models import build_model
from thinwire.plan import Profile, write_profile
from thinwire.plan.units import rate_text
from thinwire.train import Workers, detect_workers, worker_processes
from thinwire.train.calibrate import Workload, calibrate

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
        with worker_processes(worker, TIMEOUT):
            profile = calibrate(fields.profile.stem, _workload(fields, max(sizes)), sizes)
        if worker.rank == 0:
            with user_errors():
                write_profile(profile, fields.profile)
            _say(profile, fields)

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


def _say(profile: Profile, fields: PlanFields) -> None:
    """The profile in a few lines."""
    console = Console()
    times = profile.compute
    console.print(f"{profile.values:,} parameters, {profile.workers} workers measured together")
    for size, seconds in zip(times.sizes, times.seconds, strict=True):
        console.print(
            f"  {size:6} samples {1e3 * seconds:9.2f} ms {1e6 * seconds / size:9.1f} us each"
        )
    sign = profile.codes["sign"]
    whole = {"quantise": sign.encode, "add": sign.add, "decode": sign.decode}
    whole["post-process"] = profile.post
    parts = ", ".join(f"{name} {1e3 * t * profile.values:.2f} ms" for name, t in whole.items())
    console.print(f"  {parts}, overhead {1e3 * sign.overhead:.2f} ms", soft_wrap=True)
    if profile.link is None:
        console.print("  no network measured: one worker alone (--workers K measures it)")
    else:
        link = profile.link
        console.print(
            f"  network {rate_text(link.bandwidth)}, start-up {1e6 * link.latency:.0f} us, "
            f"waiting in a step {1e6 * link.waiting:.0f} us"
        )
    console.print(f"wrote {fields.profile}", soft_wrap=True)


def _launch(args: list[str], workers: int) -> int:
    """Start worker processes, each with its share of the processors."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    command = ["--standalone", "--nproc-per-node", str(workers), "-m", "thinwire", "plan", *args]
    try:
        launch(parse_args(command))
    except ChildFailedError as failed:
        worker, failure = failed.get_first_failure()
        print(f"\n{describe_failure(worker, failure)}", file=sys.stderr)
        return 2 if failure.exitcode == 2 else 1
    return 0
