"""One thread that runs jobs in the order in which they were handed in.

Collectives of one process group must be issued in the same order on every rank; a single thread
taking them off a queue guarantees it, and overlaps them with whatever the caller computes.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class Fifo:
    """A daemon thread and its queue, started by the first job.

    It is a daemon so that a job stuck in a collective cannot keep a failing process alive.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], T]) -> "Future[T]":
        """Run ``job`` after those handed in before; its exception goes into the future."""
        if self._thread is None:
            threads = torch.get_num_threads()
            self._thread = threading.Thread(
                target=self._run, args=(threads,), name=self._name, daemon=True
            )
            self._thread.start()
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """Finish the jobs handed in and end the thread."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _run(self, threads: int) -> None:
        torch.set_num_threads(threads)  # the setting is per thread
        while (item := self._jobs.get()) is not None:
            job, future = item
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)
            del item, job, future  # let go of the tensors before waiting for the next job
