"""SIGTERM and Ctrl-C as a wish: finish the step, write a checkpoint, leave.

The signal is noticed by a thread, not by the interpreter's handler, so that it counts even while
the main thread waits inside a collective that will never end.
"""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

PATIENCE = 10.0  # seconds, beside a few steps, from the signal to where all workers can stop
_STEPS = 3  # the one that is running, and those until all have agreed
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Notices SIGTERM and SIGINT while it is entered (by the main thread).

    A worker that has not answered after ``PATIENCE`` and a few steps hangs, or its peers do: it
    prints where, and exits. A second Ctrl-C exits at once. A repeated SIGTERM does not: schedulers
    send several.

    Attributes:
        received: the signal this worker got, or 0.
        agreed: the signal for which all workers stopped, or 0; its exit code is 128 + that.
        step_seconds: what a step may take; the loop says so.
    """

    def __init__(self) -> None:
        self.received = 0
        self.agreed = 0
        self.step_seconds = 0.0
        self._at_long_work = self._answered = self._noticed = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in SIGNALS:
            self._handlers[number] = signal.signal(number, lambda *_: None)
        self._thread = threading.Thread(target=self._listen, args=(reading,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._writing)  # ends the thread
        self._thread.join()
        self.answered()

    @contextlib.contextmanager
    def long_work(self) -> Iterator[None]:
        """Do what may take its time and is no hang: patience begins when it has ended."""
        self._at_long_work = True
        faulthandler.cancel_dump_traceback_later()
        try:
            yield
        finally:
            self._at_long_work = False
            if self._noticed and not self._answered:
                self._lose_patience_later()

    def answered(self) -> None:
        """The main thread has seen the wish: what follows may take its time."""
        self._answered = True
        faulthandler.cancel_dump_traceback_later()

    def _listen(self, reading: int) -> None:
        while number := os.read(reading, 1):
            self._notice(number[0])
        os.close(reading)

    def _lose_patience_later(self) -> None:
        patience = PATIENCE + _STEPS * self.step_seconds
        faulthandler.dump_traceback_later(patience, exit=True)

    def _notice(self, number: int) -> None:
        if number not in SIGNALS:
            return
        if not self.received:
            self.received, self._noticed = number, True
            if not self._at_long_work:
                self._lose_patience_later()
        elif number == signal.SIGINT or number != self.received:
            with contextlib.suppress(OSError):
                if sys.stdout.isatty():
                    os.write(sys.stdout.fileno(), b"\x1b[?25h")  # a live display hid the cursor
            os._exit(128 + number)
