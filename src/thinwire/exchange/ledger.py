"""The ledger: every collective, message and byte handed to the process group, by stage."""

from dataclasses import dataclass


@dataclass
class Traffic:
    """What one worker sent in one stage.

    Attributes:
        collectives: calls of a collective operation.
        messages: one for each peer in each collective that sent that peer anything; two for a
            long packet of gradients, whose header follows it.
        bytes: bytes that left this worker for its peers, headers and padding included, before
            the transport's own framing. A packet gathered by K - 1 peers counts K - 1 times: that
            is what a ring or a direct exchange puts on this worker's link.
    """

    collectives: int = 0
    messages: int = 0
    bytes: int = 0

    def __sub__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.collectives - other.collectives,
            self.messages - other.messages,
            self.bytes - other.bytes,
        )

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.collectives + other.collectives,
            self.messages + other.messages,
            self.bytes + other.bytes,
        )


class Ledger:
    """Counts of one worker, by stage ("gradients", "updates", ...)."""

    def __init__(self) -> None:
        self.stages: dict[str, Traffic] = {}

    def record(self, stage: str, *, messages: int, bytes: int) -> None:  # noqa: A002
        """Add one collective."""
        traffic = self.stages.setdefault(stage, Traffic())
        traffic.collectives += 1
        traffic.messages += messages
        traffic.bytes += bytes

    def add(self, stage: str, traffic: Traffic) -> None:
        """Add what was sent elsewhere; nothing is entered where nothing was."""
        if traffic != Traffic():
            self.stages[stage] = self.stages.get(stage, Traffic()) + traffic

    def total(self, *stages: str) -> Traffic:
        """The sum over the named stages, or over all."""
        chosen = [t for name, t in self.stages.items() if not stages or name in stages]
        return Traffic(
            sum(t.collectives for t in chosen),
            sum(t.messages for t in chosen),
            sum(t.bytes for t in chosen),
        )

    def state_dict(self) -> dict[str, dict[str, int]]:
        """Plain numbers by stage."""
        return {name: vars(traffic).copy() for name, traffic in self.stages.items()}

    def load_state_dict(self, state: dict[str, dict[str, int]]) -> None:
        """Continue from counts taken by ``state_dict``."""
        self.stages = {name: Traffic(**counts) for name, counts in state.items()}
