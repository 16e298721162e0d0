"""The kernel's counters of an interface: what really went over a host's wire."""

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab.network import Network
from benchmarks.lab.system import execute

HEADER_BYTES = 14 + 20 + 20 + 12  # Ethernet, IPv4, TCP and its time-stamp option
OWN = Path("/proc/self/net/dev")  # of the network namespace a process is in


@dataclass(frozen=True)
class Counters:
    """Bytes (Ethernet headers included) and packets, sent and received."""

    tx_bytes: int = 0
    rx_bytes: int = 0
    tx_packets: int = 0
    rx_packets: int = 0

    @property
    def tx_payload(self) -> int:
        """Bytes sent on TCP connections, without any headers (see ``overhead``)."""
        return self.tx_bytes - HEADER_BYTES * self.tx_packets

    @property
    def rx_payload(self) -> int:
        """Bytes received on TCP connections, without any headers."""
        return self.rx_bytes - HEADER_BYTES * self.rx_packets

    def __sub__(self, other: "Counters") -> "Counters":
        """What went by between two readings."""
        return Counters(
            self.tx_bytes - other.tx_bytes,
            self.rx_bytes - other.rx_bytes,
            self.tx_packets - other.tx_packets,
            self.rx_packets - other.rx_packets,
        )


def host_counters(network: Network) -> list[Counters]:
    """Of every host's ``eth0``, read from outside."""
    return [_from_ip(_show(network.host(k))) for k in range(network.hosts)]


def own_counters(device: str = "eth0", table: str | None = None) -> Counters:
    """Of the namespace this process runs in.

    Args:
        device: the interface.
        table: the text of ``/proc/self/net/dev``; read if None.

    Raises:
        ValueError: there is no such interface.
    """
    for line in (OWN.read_text() if table is None else table).splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == device:
            fields = [int(field) for field in numbers.split()]
            return Counters(fields[8], fields[0], fields[9], fields[1])
    raise ValueError(f"device: expected an interface of this namespace, got {device!r}")


def _show(namespace: str) -> str:
    return execute(["ip", "-n", namespace, "-s", "-j", "link", "show", "eth0"])


def _from_ip(shown: str) -> Counters:
    stats = json.loads(shown)[0]["stats64"]
    tx, rx = stats["tx"], stats["rx"]
    return Counters(tx["bytes"], rx["bytes"], tx["packets"], rx["packets"])
