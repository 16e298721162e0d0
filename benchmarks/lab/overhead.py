"""From the kernel's bytes to the ledger's: what protocols add, and what is left to explain.

The interface counts Ethernet frames. Each begins with 66 bytes that are not payload: Ethernet 14,
IPv4 20, TCP 20 and its time-stamp option 12 (Linux always sends it). An acknowledgement alone is
such a frame with nothing in it. So

    payload = bytes - 66 x packets

holds to the byte for established TCP connections, however the stream was cut into packets (a frame
may still be longer than the MTU where the counter sees it: Linux cuts large ones in the driver).
What is left over against the ledger, *unexplained* below, is the transport's own messages (gloo
puts 56 bytes before each of its messages), the rendezvous, and retransmissions.
"""

from dataclasses import dataclass

from benchmarks.lab.counters import HEADER_BYTES, Counters

MTU = 1500
SEGMENT_BYTES = MTU - (HEADER_BYTES - 14)  # payload of a full packet: 1448


@dataclass(frozen=True)
class Comparison:
    """The ledger of one worker against its interface.

    Attributes:
        ledger: bytes the worker says it sent.
        payload: bytes sent on TCP connections, by the interface's counters.
        headers: bytes of Ethernet, IP and TCP headers, by the same.
    """

    ledger: int
    payload: int
    headers: int

    @property
    def unexplained(self) -> float:
        """(payload - ledger) / ledger."""
        return (self.payload - self.ledger) / self.ledger if self.ledger else 0.0


def compare(ledger: int, counters: Counters) -> Comparison:
    """Hold a worker's ledger against what its interface sent.

    >>> seen = Counters(tx_bytes=1_046_600, tx_packets=700)
    >>> compare(1_000_000, seen), compare(1_000_000, seen).unexplained
    (Comparison(ledger=1000000, payload=1000400, headers=46200), 0.0004)
    """
    headers = HEADER_BYTES * counters.tx_packets
    return Comparison(ledger, counters.tx_payload, headers)


def wire_seconds(payload: float, rate: int | None) -> float:
    """How long full packets with this much payload occupy a wire; 0 where it is not throttled.

    >>> round(wire_seconds(1e6, 100_000_000), 4)
    0.0836
    """
    packets = payload / SEGMENT_BYTES
    return 8 * (payload + HEADER_BYTES * packets) / rate if rate else 0.0
