"""Injected into worker processes by the tests (PYTHONPATH): one worker fails at one step.

THINWIRE_FAULT="KIND:RANK:STEP" with KIND raise, hang, kill or nan; killonce (not after a restart);
SIGTERM or SIGINT: sent to the launcher. "nopickle:0:0": unpickling fails on every worker.
"""

import os
import signal
import time

_kind, _rank, _step = os.environ.get("THINWIRE_FAULT", "none:0:0").split(":")

if _kind == "nopickle" and "RANK" in os.environ:
    import pickle

    import torch

    def _refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("something is being unpickled")

    pickle.load = pickle.loads = torch.load = _refuse  # type: ignore[assignment]

if _kind not in ("none", "nopickle") and os.environ.get("RANK") == _rank:
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
        if _kind.startswith("SIG"):
            os.kill(os.getppid(), signal.Signals[_kind])
        if _kind == "kill" or (
            _kind == "killonce" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        ):
            os.kill(os.getpid(), signal.SIGKILL)
        if _kind == "hang":
            time.sleep(1000)

    OneBitSGD.zero_grad = _faulty  # type: ignore[method-assign]
