"""Injected into worker processes by the tests (PYTHONPATH): one worker fails at one step.

THINWIRE_FAULT="KIND:RANK:STEP" with KIND raise, hang, kill or nan; killonce (not after a restart);
SIGTERM or SIGINT: sent to the launcher. KIND@product counts a solver's products (from any run of
Hessian-free) and not steps. "nopickle:0:0": unpickling fails on every worker.
"""

import os
import signal
import time

_what, _rank, _step = os.environ.get("THINWIRE_FAULT", "none:0:0").split(":")
_kind, _, _place = _what.partition("@")

if _kind == "nopickle" and "RANK" in os.environ:
    import pickle

    import torch

    def _refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("something is being unpickled")

    pickle.load = pickle.loads = torch.load = _refuse  # type: ignore[assignment]

if _kind not in ("none", "nopickle") and os.environ.get("RANK") == _rank:
    from thinwire.curvature import CurvatureOperator
    from thinwire.optim import OneBitSGD

    _steps = iter(range(10**9))
    _zero_grad, _product = OneBitSGD.zero_grad, CurvatureOperator._sum

    def _fail_now(step: int) -> None:
        if step != int(_step):
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

    def _faulty(self: OneBitSGD, set_to_none: bool = True) -> None:
        """Called first in every step of the loop."""
        _zero_grad(self, set_to_none)
        step = next(_steps)
        if _kind == "nan" and step >= int(_step):
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.register_hook(lambda gradient: gradient * float("nan"))
        _fail_now(step)

    def _faulty_product(self: CurvatureOperator, *args: object) -> object:
        _fail_now(next(_steps))
        return _product(self, *args)  # type: ignore[arg-type]

    if _place == "product":
        CurvatureOperator._sum = _faulty_product  # type: ignore[assignment,method-assign]
    else:
        OneBitSGD.zero_grad = _faulty  # type: ignore[method-assign]
