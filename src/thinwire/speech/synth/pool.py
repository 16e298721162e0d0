"""Calling a function in a fresh process for each argument, some at a time, in order."""

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

A = TypeVar("A")
R = TypeVar("R")


def fresh_processes(
    function: Callable[[A], R], arguments: Iterable[A], jobs: int
) -> Generator[R, None, None]:
    """Yield the results in the order of the arguments, of which so many are worked on at a time.

    The processes are children of one that has imported the function's module and done nothing
    else. Closing the iterator ends them.

    Args:
        function: of a module.
        arguments: taken as processes become free.
        jobs: processes at a time.

    Raises:
        RuntimeError: a process raised an error, whose message it is, or ended without an answer.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    running: deque[tuple[BaseProcess, Connection]] = deque()
    waiting = iter(arguments)
    try:
        while True:
            while len(running) < jobs and (argument := next(waiting, None)) is not None:
                running.append(_start(context, function, argument))
            if not running:
                return
            yield _answer(*running.popleft())
    finally:
        for process, connection in running:
            process.terminate()
            process.join()
            connection.close()


def _start(
    context: ForkServerContext, function: Callable[[A], R], argument: A
) -> tuple[BaseProcess, Connection]:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, function, argument), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _work(connection: Connection, function: Callable[[A], R], argument: A) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    answer: tuple[bool, Any]
    try:
        answer = True, function(argument)
    except (RuntimeError, ValueError, OSError) as error:
        answer = False, str(error)
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        connection.send(answer)


def _answer(process: BaseProcess, connection: Connection) -> Any:
    try:
        done, result = connection.recv()
    except EOFError:
        process.join()
        raise RuntimeError(
            f"a process ended without an answer, with exit code {process.exitcode}"
        ) from None
    finally:
        connection.close()
    process.join()
    if not done:
        raise RuntimeError(result)
    return result
