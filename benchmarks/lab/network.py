"""What the laboratory consists of, as a plan: names, addresses, and the commands that build it.

Every host is a network namespace with one interface, ``eth0``. Its other end is a port of a bridge
that lives in a namespace of its own, so nothing is ever added to the machine's own network, and
deleting the namespaces deletes everything:

    host 0  eth0 --- port0 ┐
    host 1  eth0 --- port1 ├ bridge      (namespace NAME-switch)
    host 2  eth0 --- port2 ┘

``tc tbf`` on ``eth0`` throttles what a host sends, on the port what it receives.
"""

from dataclasses import dataclass

from benchmarks.lab.rate import rate_text

Command = list[str]

MOST_HOSTS = 64
SEGMENT_SECONDS = 125e-6  # how long the largest piece that is sent in one go occupies the wire
SMALLEST_SEGMENT, LARGEST_SEGMENT = 4 * 1024, 64 * 1024  # bytes
QUEUE_SECONDS = 0.1  # how long a packet may wait in a port before packets are dropped
SMALLEST_QUEUE = 256 * 1024  # bytes

SYSCTLS = (
    "net.ipv6.conf.all.disable_ipv6=1",  # its discovery packets would be counted
    "net.ipv4.tcp_congestion_control=reno",  # the one every kernel lets a namespace have
)


@dataclass(frozen=True)
class Network:
    """A laboratory.

    Attributes:
        hosts: how many.
        rate: bits a second of every host's wire, in each direction; None: not throttled.
        name: what all its namespaces' names begin with.
    """

    hosts: int
    rate: int | None = None
    name: str = "thinwire"

    def __post_init__(self) -> None:
        if not 1 <= self.hosts <= MOST_HOSTS:
            raise ValueError(f"hosts: expected 1 to {MOST_HOSTS}, got {self.hosts}")

    @property
    def switch(self) -> str:
        """The bridge's namespace."""
        return f"{self.name}-switch"

    def host(self, k: int) -> str:
        """The namespace of host k."""
        return f"{self.name}-host{k}"

    def address(self, k: int) -> str:
        """The IPv4 address of host k; private to the laboratory."""
        return f"10.86.0.{k + 1}"

    @property
    def namespaces(self) -> list[str]:
        """All of them."""
        return [self.switch, *(self.host(k) for k in range(self.hosts))]

    @property
    def segment(self) -> int:
        """Bytes that TCP hands to the interface in one go, to be cut into packets there.

        As a network card does it. One packet at a time would cost more processor time than
        everything else together; tbf accounts for the headers of each packet all the same.
        """
        if self.rate is None:
            return LARGEST_SEGMENT
        size = round(self.rate / 8 * SEGMENT_SECONDS)
        return min(max(size, SMALLEST_SEGMENT), LARGEST_SEGMENT)

    @property
    def burst(self) -> int:
        """Bytes a wire may send at once after it was idle: two segments.

        Small, because a burst is a gift to whoever computes between two messages; but what does
        not fit is lost when a timer fires late.
        """
        return 2 * self.segment

    @property
    def queue(self) -> int:
        """Bytes that wait before a port before packets are dropped."""
        return max(SMALLEST_QUEUE, round((self.rate or 0) / 8 * QUEUE_SECONDS))

    def build(self) -> list[Command]:
        """The commands that make it, in order."""
        commands: list[Command] = []
        for namespace in self.namespaces:
            commands.append(["ip", "netns", "add", namespace])
            commands += [
                ["ip", "netns", "exec", namespace, "sysctl", "-q", "-w", setting]
                for setting in SYSCTLS
            ]
            commands.append(["ip", "-n", namespace, "link", "set", "lo", "up"])
        commands.append(["ip", "-n", self.switch, "link", "add", "bridge", "type", "bridge"])
        commands.append(["ip", "-n", self.switch, "link", "set", "bridge", "up"])
        for k in range(self.hosts):
            commands += self._plug_in(k)
        return commands

    def _plug_in(self, k: int) -> list[Command]:
        host, port = self.host(k), f"port{k}"
        in_switch, in_host = ["ip", "-n", self.switch], ["ip", "-n", host]
        veth = ["link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host]
        commands = [
            [*in_switch, *veth],
            [*in_switch, "link", "set", port, "master", "bridge", "up"],
            [*in_host, "addr", "add", f"{self.address(k)}/24", "dev", "eth0"],
            [*in_host, "link", "set", "eth0", "up"],
        ]
        if self.segment < LARGEST_SEGMENT:
            largest = ["gso_max_size", str(self.segment)]
            commands.append([*in_switch, "link", "set", port, *largest])
            commands.append([*in_host, "link", "set", "eth0", *largest])
        if self.rate is not None:
            commands += [self._throttle(host, "eth0"), self._throttle(self.switch, port)]
        return commands

    def _throttle(self, namespace: str, device: str) -> Command:
        command = ["tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf"]
        limits = ["rate", rate_text(self.rate), "burst", f"{self.burst}b", "limit"]
        return [*command, *limits, f"{self.queue}b"]
