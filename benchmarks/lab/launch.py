"""Running a command on every host: one torchrun node each, their output together, bytes counted."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.lab.counters import Counters, host_counters
from benchmarks.lab.network import Command, Network

PORT = 29400
GRACE_SECONDS = 15.0  # after the first failure, for the others to notice and end by themselves
KILL_SECONDS = 5.0  # between SIGTERM and SIGKILL


@dataclass(frozen=True)
class Run:
    """How a command ended.

    Attributes:
        code: 0, or the exit status of the host that failed first.
        failed: that host, or None.
        seconds: how long it took, start and end of torchrun included.
        traffic: what went over each host's wire.
    """

    code: int
    failed: int | None
    seconds: float
    traffic: list[Counters] = field(default_factory=list)


def node_command(
    network: Network, k: int, command: Sequence[str], python: str = sys.executable
) -> Command:
    """Host k's command line: torchrun, as one would type it on a real host.

    ``command`` is what follows torchrun's own options: a script, ``-m module``, or any program.
    """
    torchrun = [python, "-m", "torch.distributed.run", "--nnodes", str(network.hosts)]
    torchrun += ["--nproc-per-node", "1", "--node-rank", str(k)]
    torchrun += ["--master-addr", network.address(0), "--master-port", str(PORT)]
    torchrun += ["--local-addr", network.address(k)]
    if not (command[0] == "-m" or command[0].endswith(".py")):
        torchrun.append("--no-python")
    return ["ip", "netns", "exec", network.host(k), *torchrun, *command]


def host_environment() -> dict[str, str]:
    """This process's, and what gloo needs to find the interface.

    Errors only from torch's C++ side: it would complain that addresses have no names.
    """
    defaults = {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return {**defaults, **os.environ, "GLOO_SOCKET_IFNAME": "eth0"}


def run(
    network: Network,
    command: Sequence[str],
    *,
    say: Callable[[str], None] = print,
    python: str = sys.executable,
) -> Run:
    """Run a command on every host and wait for it.

    The first host that fails fails the run; the others get a few seconds to end by themselves.

    Args:
        network: a laboratory that stands.
        command: see ``node_command``.
        say: receives every line of output, with its host before it.
        python: the interpreter that runs torchrun.
    """
    before, started = host_counters(network), time.monotonic()
    nodes = [
        subprocess.Popen(
            node_command(network, k, command, python),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=host_environment(),
            start_new_session=True,
        )
        for k in range(network.hosts)
    ]
    lock = threading.Lock()
    readers = [
        threading.Thread(target=_relay, args=(k, node, say, lock), daemon=True)
        for k, node in enumerate(nodes)
    ]
    for reader in readers:
        reader.start()
    try:
        failed = _wait(nodes)
    finally:
        _end(nodes)
        for reader in readers:
            reader.join(KILL_SECONDS)
    seconds = time.monotonic() - started
    traffic = [a - b for a, b in zip(host_counters(network), before, strict=True)]
    code = 0 if failed is None else nodes[failed].returncode
    return Run(code if code >= 0 else 128 - code, failed, seconds, traffic)


def _relay(
    host: int, node: "subprocess.Popen[str]", say: Callable[[str], None], lock: threading.Lock
) -> None:
    assert node.stdout is not None
    with node.stdout as lines:
        for line in lines:
            with lock:
                say(f"host{host} | {line.rstrip()}")


def _wait(nodes: "Sequence[subprocess.Popen[str]]") -> int | None:
    """Until all have ended, or one has failed and its grace is over; the first that failed."""
    failed, deadline = None, float("inf")
    while any(node.poll() is None for node in nodes) and time.monotonic() < deadline:
        if failed is None:
            failed = next((k for k, node in enumerate(nodes) if node.poll()), None)
            deadline = time.monotonic() + GRACE_SECONDS if failed is not None else deadline
        time.sleep(0.05)
    if failed is None:
        failed = next((k for k, node in enumerate(nodes) if node.poll()), None)
    return failed


def _end(nodes: "Sequence[subprocess.Popen[str]]") -> None:
    """Whatever still runs: SIGTERM to each node's session, then SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for node in nodes:
            if node.poll() is None or number == signal.SIGKILL:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(node.pid, number)
        deadline = time.monotonic() + KILL_SECONDS
        while any(node.poll() is None for node in nodes) and time.monotonic() < deadline:
            time.sleep(0.05)
