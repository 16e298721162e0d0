"""When things were done, in the terms of S eq. (4): what a step's seconds are made of.

Every piece of work has one name, which profilers see too, and belongs to one of S's terms as the
planner counts them (``plan/methods``):

======  ======================================  =================================================
term    S section 2.1                           what is counted
======  ======================================  =================================================
post    C T_calc^post, divides by K             post-processing of the owner's stripe, and its
                                                second quantisation
upd     T_calc^upd, the same for any K          over the whole model: copy gradients, quantise,
                                                add the K packets of a stripe, decode, apply
comm    T_comm                                  handing packets to the wire, and waiting for those
                                                of the others (for slower workers, too)
======  ======================================  =================================================

The fourth term, N T_calc^frm / K, is forward and backward; only the training loop sees it.
"""

import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch.profiler import record_function

TERMS = ("post", "comm", "upd")
TERM_OF = {
    "sub-gradient": "upd",
    "quantise": "upd",
    "all_to_all": "comm",
    "sum": "upd",
    "post-process": "post",
    "requantise": "post",
    "all_gather": "comm",
    "decode": "upd",
    "apply": "upd",
}

Span = tuple[str, float, float]  # a name of TERM_OF, beginning and end in perf_counter's seconds


@contextmanager
def span(name: str, spans: list[Span] | None) -> Iterator[None]:
    """Name what is done inside for the profiler, and enter when it was done, if anyone asks.

    Args:
        name: of the work, one of ``TERM_OF``.
        spans: receives the span of work that did not fail; None: nobody asks.
    """
    with record_function(f"thinwire::{name}"):
        started = time.perf_counter()
        yield
    if spans is not None:
        spans.append((name, started, time.perf_counter()))


class Timeline:
    """Seconds of one worker's exchanges, added up.

    Attributes:
        exposed: by term, on the path of the thread that calls ``step``: its own work, and what
            the communication thread did while it was waited for.
        hidden: by term, what the communication thread did while that thread did something else.
            Both together are all the exchange took.
        own: spans of the calling thread's work since the last ``settle``.
    """

    def __init__(self) -> None:
        self.exposed = dict.fromkeys(TERMS, 0.0)
        self.hidden = dict.fromkeys(TERMS, 0.0)
        self.own: list[Span] = []
        self._waits: list[tuple[float, float]] = []

    def own_seconds(self) -> float:
        """Seconds of the calling thread's own work since the last ``settle``."""
        return sum(stop - start for _, start, stop in self.own)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The calling thread waits for the communication thread."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._waits.append((started, time.perf_counter()))

    def settle(self, others: Sequence[Span]) -> None:
        """Add up what has happened since the last call.

        Args:
            others: the communication thread's spans, of which none has been given before.
        """
        for name, start, stop in self.own:
            self.exposed[TERM_OF[name]] += stop - start
        for name, start, stop in others:
            waited = overlap(start, stop, self._waits)
            self.exposed[TERM_OF[name]] += waited
            self.hidden[TERM_OF[name]] += stop - start - waited
        self.own, self._waits = [], []


def overlap(start: float, stop: float, intervals: Sequence[tuple[float, float]]) -> float:
    """How much of a span lies in intervals, which are disjoint and in order.

    >>> overlap(1.0, 4.0, [(0.0, 1.5), (2.0, 3.0), (5.0, 6.0)])
    1.5
    """
    total = 0.0
    for first, last in intervals[bisect_right(intervals, start, key=lambda pair: pair[1]) :]:
        if first >= stop:
            break
        total += min(last, stop) - max(first, start)
    return total
