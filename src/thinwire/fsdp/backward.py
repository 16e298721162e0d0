"""What is exchanged in one backward is kept or dropped as a whole.

FSDP exchanges one module after another while backward runs. Only at its end is it known whether
some module met a NaN, in which case scripts skip the optimiser's step: then nothing any module
released must count as sent. A script may also take a backward back until the next one begins.
"""

from weakref import WeakValueDictionary

import torch
from torch import Tensor

from thinwire.exchange import Bucket, Verdict


class Backward:
    """The exchanges of one backward pass.

    Attributes:
        finite: whether every gradient was, so far. All workers see the same headers, so it is the
            same on all of them.
    """

    def __init__(self) -> None:
        self.finite = True
        self._before: dict[Bucket, Tensor | None] = {}
        self._ended = False

    def begin(self, bucket: Bucket) -> None:
        """Announce an exchange: ``bucket.scratch`` is about to be overwritten.

        A module that is exchanged again in the same backward, as one that is used twice is, goes on
        from what its exchange before left, of which what was there first is kept.
        """
        if bucket not in self._before:
            self._before[bucket] = None
        elif self.finite:
            if self._before[bucket] is None:
                self._before[bucket] = bucket.stages.worker.residual.clone()
            bucket.commit()

    def note(self, verdict: Verdict) -> None:
        """Take into account what an exchange has shown."""
        self.finite &= verdict.finite

    def end(self) -> None:
        """Leave every residual as it was before if a gradient was not finite."""
        self._ended = True
        if not self.finite:
            self.drop()

    def keep(self) -> None:
        """Keep all new residuals of a backward that has ended; again does nothing."""
        if not self._ended:  # it has failed
            self.drop()
        for bucket in self._before:
            bucket.commit()
        self._before = {}

    def drop(self) -> None:
        """Leave every residual as it was before it; again does nothing."""
        for bucket, before in self._before.items():
            bucket.drop()
            if before is not None:
                bucket.stages.worker.residual.copy_(before)
        self._before = {}


# Autograd keeps the callback, hence the object, until that backward has ended or has failed.
_running: WeakValueDictionary[int, Backward] = WeakValueDictionary()


def current_backward() -> Backward | None:
    """The backward that runs now, whose ``end`` autograd will call; None outside of one."""
    task = torch._C._current_graph_task_id()
    if task < 0:
        return None
    backward = _running.get(task)
    if backward is None:
        backward = _running[task] = Backward()
        torch.autograd.Variable._execution_engine.queue_callback(backward.end)
    return backward
