"""Building the laboratory, finding the one that stands, and taking it down."""

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator

from benchmarks.lab.network import Network
from benchmarks.lab.rate import parse_rate
from benchmarks.lab.system import LabError, check_machine, execute

GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL


def up(network: Network) -> None:
    """Build it. Remains of one with the same name are removed first.

    Raises:
        LabError: one of this name is in use, or the machine cannot.
    """
    check_machine()
    busy = [pid for namespace in _namespaces(network.name) for pid in _processes(namespace)]
    if busy:
        raise LabError(
            f"the laboratory {network.name!r} is in use by process {busy[0]}: wait, or take it "
            "down (python -m benchmarks.lab down)"
        )
    down(network.name)
    try:
        for command in network.build():
            execute(command)
    except BaseException:
        down(network.name)
        raise


def down(name: str = Network.name) -> bool:
    """Remove every namespace of this laboratory, and end the processes in them.

    Safe to call at any time, after a crash too. The namespaces take their interfaces with them.

    Returns:
        Whether there was anything to remove.
    """
    check_machine()
    namespaces = _namespaces(name)
    _end(namespaces)
    for namespace in namespaces:
        execute(["ip", "netns", "del", namespace])
    return bool(namespaces)


def find(name: str = Network.name) -> Network:
    """The laboratory of this name as it stands.

    Raises:
        LabError: there is none.
    """
    check_machine()
    hosts = sum("-host" in namespace for namespace in _namespaces(name))
    if hosts == 0:
        raise LabError(
            f"there is no laboratory {name!r}: python -m benchmarks.lab up --hosts 4 --rate 100mbit"
        )
    shown = execute(["tc", "-n", f"{name}-host0", "-j", "qdisc", "show", "dev", "eth0"])
    rates = [q["options"]["rate"] * 8 for q in json.loads(shown) if q["kind"] == "tbf"]
    return Network(hosts, rates[0] if rates else None, name)


@contextlib.contextmanager
def lab(hosts: int, rate: str, name: str = Network.name) -> Iterator[Network]:
    """A laboratory for the length of a ``with`` block."""
    network = Network(hosts, parse_rate(rate), name)
    up(network)
    try:
        yield network
    finally:
        down(name)


def _namespaces(name: str) -> list[str]:
    """Those of one laboratory, hosts last so that ``-switch`` goes while its ports are idle."""
    listed = [line.split()[0] for line in execute(["ip", "netns", "list"]).splitlines()]
    pattern = re.compile(rf"{re.escape(name)}-(switch|host\d+)")
    return sorted(filter(pattern.fullmatch, listed), reverse=True)


def _processes(namespace: str) -> list[int]:
    return [int(pid) for pid in execute(["ip", "netns", "pids", namespace]).split()]


def _end(namespaces: list[str]) -> None:
    """SIGTERM to the processes in them, some patience, SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_SECONDS
        signalled: set[int] = set()
        while pids := [pid for namespace in namespaces for pid in _processes(namespace)]:
            for pid in set(pids) - signalled:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            signalled |= set(pids)
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
