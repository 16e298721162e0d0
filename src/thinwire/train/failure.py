"""A lost worker must end the job, under its own name, in bounded time."""

import contextlib
import faulthandler
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from thinwire.exchange import ContactLostError
from thinwire.train.environment import Workers
from thinwire.train.local_workers import local_store

GRACE = 3.0  # seconds; a launcher that sees the dead worker's own error stops us meanwhile


@contextlib.contextmanager
def naming_lost_workers(workers: Workers) -> Iterator[None]:
    """Turn a failed collective into an error that names the workers that no longer answer.

    A worker that hangs is stopped by the launcher with SIGTERM; it then says where it hung.

    Raises:
        RuntimeError: a collective failed or timed out.
    """
    if workers.world == 1:
        yield
        return
    faulthandler.register(signal.SIGTERM, chain=True)
    try:
        yield
    except RuntimeError as error:
        if not _from_transport(error):
            raise
        faulthandler.unregister(signal.SIGTERM)  # we do not hang, we have just failed
        missing = _missing_workers(workers)
        who = f"worker {', '.join(map(str, missing))}" if missing else "a worker"
        raise RuntimeError(
            f"lost contact with {who}: it died, or did not answer within the time-out"
        ) from error


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """Until workers have met there is nothing to save: a signal ends this worker then and there."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _from_transport(error: RuntimeError) -> bool:
    return isinstance(error, (ContactLostError, dist.DistError)) or "gloo" in str(error)


def _missing_workers(workers: Workers) -> list[int]:
    """The workers that do not report, within the grace, that they failed too."""
    try:
        store = local_store(workers.world, "failed") or TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=GRACE),
        )
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # the store outlives it
        failed = f"thinwire/failed/{attempt}"
        store.set(f"{failed}/{workers.rank}", "")
        time.sleep(GRACE)
        return [r for r in range(workers.world) if not store.check([f"{failed}/{r}"])]
    except (RuntimeError, KeyError):  # the store's host is gone as well
        time.sleep(GRACE)
        return []
