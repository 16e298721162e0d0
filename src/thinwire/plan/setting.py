"""Where a method runs: a calibrated machine, and the network between machines of its kind."""

from dataclasses import dataclass

from thinwire.plan.network import ETHERNET_GOODPUT, Link, Network
from thinwire.plan.paper import SECOND_GPU
from thinwire.plan.profile import Profile

START_UP = 50e-6  # seconds of a collective, where no network was measured
INNER_BANDWIDTH = 12.5e9  # bytes/s (100 Gbit/s) between workers of one machine


@dataclass(frozen=True)
class Setting:
    """Where a method runs.

    Attributes:
        profile: the machine and the model.
        network: how machines are connected.
        efficiency: of each further processor in model parallelism; [Seide 2014, section 5.5]
            measured 0.55.
        shared: all workers share the processors of the one machine that was calibrated.
        line_rate: of each machine's link as networks are sold, headers included, in bytes/s; None
            where the network is the one that was measured.
    """

    profile: Profile
    network: Network
    efficiency: float = SECOND_GPU
    shared: bool = False
    line_rate: float | None = None


def make_setting(
    profile: Profile,
    *,
    bandwidth: float | None = None,
    latency: float | None = None,
    per_node: int = 1,
    inner_bandwidth: float = INNER_BANDWIDTH,
    efficiency: float = SECOND_GPU,
    shared: bool = False,
) -> Setting:
    """Put a profile into a network: the one that was measured, or another.

    Args:
        profile: the calibrated machine.
        bandwidth: line rate of each machine's link in bytes/s, of which a part carries payload
            (``ETHERNET_GOODPUT``); None takes the measured bandwidth, which is payload already.
        latency: seconds a collective takes to start; None takes the measured ones.
        per_node: workers in one machine, which share its link.
        inner_bandwidth: bytes/s between workers of one machine, where there are several.
        efficiency: see ``Setting``.
        shared: see ``Setting``.

    Raises:
        ValueError: no bandwidth is given and the profile was measured without a network.
    """
    measured = profile.link
    if bandwidth is not None:
        payload = bandwidth * ETHERNET_GOODPUT
    elif measured is not None:
        payload = measured.bandwidth
    else:
        raise ValueError(
            "bandwidth: expected a line rate such as 1Gbit/s, because the profile "
            f"{profile.name!r} was calibrated by one worker alone and knows no network, got none"
        )
    known = measured.latency if measured else START_UP
    start_up = known if latency is None else latency
    message, waiting = (measured.message, measured.waiting) if measured else (0.0, 0.0)
    inner = Link(inner_bandwidth, min(start_up, known), waiting=waiting)
    network = Network(Link(payload, start_up, message, waiting), inner, per_node)
    return Setting(profile, network, efficiency, shared, bandwidth)
