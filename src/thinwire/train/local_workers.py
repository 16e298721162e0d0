"""Workers of one machine, started where nobody else on the network can reach them.

torch's elastic launcher supervises them: it hands signals on, starts them again after a failure and
finds the error of the one that failed first. Its own rendezvous would open a store on every network
interface and unpickle what it reads there. Here the launcher and the workers meet in files of a
folder that only this user can open, and gloo listens on the loopback interface.
"""

import ctypes
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from torch.distributed import FileStore, Store  # type: ignore[attr-defined]
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.run import parse_args
from torch.distributed.run import run as launch

FOLDER = "THINWIRE_LOCAL_STORE"  # tells workers where they meet
_LAUNCHER = "THINWIRE_LAUNCHER"  # its process number
_MAIN = Path(__file__).parents[1] / "__main__.py"
_BACKEND = "thinwire-local"
_PR_SET_PDEATHSIG = 1


class _Local(RendezvousHandler):
    """A rendezvous of one launcher with itself."""

    def __init__(self, run_id: str, folder: Path) -> None:
        self._run_id, self._folder, self._closed = run_id, folder, False

    @property
    def use_agent_store(self) -> bool:
        """Whether workers use the launcher's store: they have one of their own for each attempt."""
        return False

    def get_backend(self) -> str:
        """Return the name of this rendezvous."""
        return _BACKEND

    def next_rendezvous(self) -> RendezvousInfo:
        """Meet; nobody else is expected."""
        # Nobody is to connect to this address; torch wants one to tell the workers.
        address = RendezvousStoreInfo("127.0.0.1", 1)
        return RendezvousInfo(FileStore(str(self._folder / "launcher"), 1), 0, 1, address)

    def is_closed(self) -> bool:
        """Whether it is over."""
        return self._closed

    def set_closed(self) -> None:
        """End it."""
        self._closed = True

    def num_nodes_waiting(self) -> int:
        """Return 0: no other machine ever joins."""
        return 0

    def get_run_id(self) -> str:
        """Return the name of the job."""
        return self._run_id

    def shutdown(self) -> bool:
        """End it."""
        self._closed = True
        return True


def launch_local(workers: int, command: list[str], *, max_restarts: int = 0) -> None:
    """Start ``python -m thinwire COMMAND`` so many times and wait until all have ended.

    Workers import nothing from the current directory unless a recipe names it.

    Args:
        workers: their number.
        command: what follows ``thinwire``.
        max_restarts: how often all are started again after one has failed.

    Raises:
        ChildFailedError: a worker failed.
        SignalException: the launcher was told to stop, and the workers have ended.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ["PYTHONSAFEPATH"] = "1"
    loopback = _loopback()
    if loopback is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = loopback
    with tempfile.TemporaryDirectory(prefix="thinwire-") as folder:  # of mode 0700
        os.environ[FOLDER], os.environ[_LAUNCHER] = folder, str(os.getpid())

        def make(parameters: RendezvousParameters) -> RendezvousHandler:
            return _Local(parameters.run_id, Path(folder))

        rendezvous_handler_registry._registry[_BACKEND] = make
        where = ["--rdzv-backend", _BACKEND, "--rdzv-endpoint", "here", "--nnodes", "1"]
        where += ["--nproc-per-node", str(workers)]
        more = ["--max-restarts", str(max_restarts), str(_MAIN), *command]
        launch(parse_args([*where, *more]))


def launched_here() -> bool:
    """Whether ``launch_local`` started this process."""
    return FOLDER in os.environ


def local_store(world: int, purpose: str = "workers") -> Store | None:
    """Return the store in which a launched worker meets the others; None under other launchers.

    Args:
        world: the number of workers.
        purpose: what they meet for; each purpose has a file of its own in each attempt.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:
        return None
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return FileStore(str(Path(folder) / f"{purpose}-{attempt}"), world)


def end_with_launcher() -> None:
    """Have this worker told to stop when its launcher ends, however that comes about.

    It is SIGTERM that it gets, for which it writes a checkpoint. Only Linux can do it; elsewhere,
    and under other launchers, nothing happens.
    """
    launcher = os.environ.get(_LAUNCHER)
    if launcher is not None and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(launcher):  # it has ended already
            os.kill(os.getpid(), signal.SIGTERM)


def _loopback() -> str | None:
    """The name of the loopback interface; None where it has an unusual one."""
    names = {name for _, name in socket.if_nameindex()}
    return next((name for name in ("lo", "lo0") if name in names), None)
