"""Injected into worker processes by the tests (PYTHONPATH): one worker fails at one step.

THINWIRE_FAULT="KIND:RANK:STEP" with KIND raise, hang, kill or nan; killonce and freezeonce (not
after a restart); SIGTERM or SIGINT: sent to the launcher. KIND@product counts a solver's products
(from any run of Hessian-free) and not steps. "nopickle:0:0": unpickling fails on every worker.
"slow@PLACE:RANK:SECONDS": one worker takes longer at PLACE, which is join, evaluate, save (its file
of a checkpoint, and worker 0 the model) or summary (the finished model); $THINWIRE_SLOW is a file
that is made when it gets there.
"""

import importlib
import os
import signal
import time
from pathlib import Path

_SLOW = {
    "join": ("torch.distributed", "init_process_group"),
    "evaluate": ("thinwire.train.evaluate", "batch_totals"),
    "save": ("thinwire.train.save", "write_tensors"),
    "summary": ("thinwire.train.summary", "write_atomically"),
}
_what, _rank, _step = os.environ.get("THINWIRE_FAULT", "none:0:0").split(":")
_kind, _, _place = _what.partition("@")

if _kind == "nopickle" and "RANK" in os.environ:
    import pickle

    import torch

    def _refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("something is being unpickled")

    pickle.load = pickle.loads = torch.load = _refuse  # type: ignore[assignment]

if _kind == "slow" and os.environ.get("RANK") == _rank:
    _module, _name = _SLOW[_place]
    _where = importlib.import_module(_module)
    _work, _left = getattr(_where, _name), iter([int(_step)])

    def _slowly(*args: object, **kwargs: object) -> object:
        if "THINWIRE_SLOW" in os.environ:
            Path(os.environ["THINWIRE_SLOW"]).touch()
        time.sleep(next(_left, 0))
        return _work(*args, **kwargs)

    setattr(_where, _name, _slowly)

if _kind not in ("none", "nopickle", "slow") and os.environ.get("RANK") == _rank:
    from thinwire.curvature import CurvatureOperator
    from thinwire.optim import LocalSteps, OneBitSGD

    _steps = iter(range(10**9))
    _zero_grad = {kind: kind.zero_grad for kind in (OneBitSGD, LocalSteps)}
    _product = CurvatureOperator._sum

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
        if _kind == "freezeonce" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGSTOP)
        if _kind == "hang":
            time.sleep(1000)

    def _faulty(self: OneBitSGD | LocalSteps, set_to_none: bool = True) -> None:
        """Called first in every step of the loop."""
        _zero_grad[type(self)](self, set_to_none)
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
        OneBitSGD.zero_grad = LocalSteps.zero_grad = _faulty  # type: ignore[method-assign]
