"""Injected into worker processes by the tests (PYTHONPATH): one worker fails at one step.

THINWIRE_FAULT="KIND:RANK:STEP" with KIND raise, hang, kill or nan.
"""

import os
import signal
import time

_kind, _rank, _step = os.environ.get("THINWIRE_FAULT", "none:0:0").split(":")

if _kind != "none" and os.environ.get("RANK") == _rank:
    from thinwire.optim import OneBitSGD

    _steps = iter(range(10**9))
    _zero_grad = OneBitSGD.zero_grad

    def _faulty(self: OneBitSGD, set_to_none: bool = True) -> None:
        """Called first in every step of the loop."""
        _zero_grad(self, set_to_none)
        step = next(_steps)
        if step < int(_step):
            return
        if _kind == "nan":
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.register_hook(lambda gradient: gradient * float("nan"))
        if step > int(_step):
            return
        if _kind == "raise":
            raise ZeroDivisionError("injected into this worker")
        if _kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if _kind == "hang":
            time.sleep(1000)

    OneBitSGD.zero_grad = _faulty  # type: ignore[method-assign]
