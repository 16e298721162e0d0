"""One thread that runs jobs in the order in which they were handed in.

Collectives of one process group must be issued in the same order on every rank; a single thread
taking them off a queue guarantees it, and overlaps them with whatever the caller computes.
"""

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

T = TypeVar("T")
Jobs = queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]


class Fifo:
    """A daemon thread and its queue, started by the first job.

    It is a daemon so that a job stuck in a collective cannot keep a failing process alive. It ends
    when ``close`` is called, or when nobody holds this object any more.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: Jobs = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._end = weakref.finalize(self, self._jobs.put, None)
        self._end.atexit = False

    def submit(self, job: Callable[[], T]) -> "Future[T]":
        """Run ``job`` after those handed in before; its exception goes into the future.

        Raises:
            RuntimeError: it was closed.
        """
        if not self._end.alive:
            raise RuntimeError(f"the thread {self._name!r} takes no more jobs: it was closed")
        if self._thread is None:
            # The thread must not hold this object, or it would never be let go of.
            self._thread = threading.Thread(
                target=_run,
                args=(self._jobs, torch.get_num_threads()),
                name=self._name,
                daemon=True,
            )
            self._thread.start()
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return future

    def close(self, *, wait: bool = True) -> None:
        """End the thread once it has finished the jobs handed in; again does nothing.

        Args:
            wait: return when it has ended.
        """
        self._end()
        if wait and self._thread is not None:
            self._thread.join()


def _run(jobs: Jobs, threads: int) -> None:
    torch.set_num_threads(threads)  # the setting is per thread
    while (item := jobs.get()) is not None:
        job, future = item
        try:
            future.set_result(job())
        except BaseException as error:
            future.set_exception(error)
        del item, job, future  # let go of the tensors before waiting for the next job
