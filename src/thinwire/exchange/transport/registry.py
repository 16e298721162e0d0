"""Which transport a job uses: by name, or the one that fits where the code runs."""

from collections.abc import Callable
from datetime import timedelta

import torch.distributed as dist

from thinwire.exchange.transport.alone import Alone
from thinwire.exchange.transport.gloo import Gloo
from thinwire.exchange.transport.links import Links, take_links
from thinwire.exchange.transport.protocol import Transport
from thinwire.exchange.transport.threads import simulated

Connect = Callable[[dist.ProcessGroup | None, timedelta | None], Transport]


def register_transport(name: str, connect: Connect) -> None:
    """Let a transport of one's own be chosen by name.

    Args:
        name: what ``transport=`` calls it.
        connect: makes the transport of this worker; it is given the process group (None: the
            default one) and the time after which a worker that does not answer is an error (None:
            torch's own). All workers call it at the same point of their scripts.

    Raises:
        ValueError: the name is taken.
    """
    if name in transport_names():
        raise ValueError(f"transport: {name!r} is taken; registered are {transport_names()}")
    _CONNECT[name] = connect


def transport_names() -> tuple[str, ...]:
    """Return the names that ``transport=`` takes."""
    return ("auto", *_CONNECT)


def connect(
    group: dist.ProcessGroup | None, timeout: timedelta | None, name: str = "auto"
) -> Transport:
    """Return a transport over connections of its own, for one thread alone.

    Args:
        group: the workers; None is the default group, or this process alone where torch.distributed
            is not initialised.
        timeout: after which a worker that does not answer is an error; None is torch's own.
        name: one of ``transport_names()``. "auto": threads inside ``simulate``, else gloo.

    Raises:
        ValueError: there is no transport of this name, or it cannot be had here.
    """
    if name != "auto":
        if name not in _CONNECT:
            raise ValueError(f"transport: expected one of {transport_names()}, got {name!r}")
        return _CONNECT[name](group, timeout)
    return simulated() or _connect_gloo(group, timeout)


def share(group: dist.ProcessGroup | None) -> Transport:
    """Return a transport over the group's own connections, which the script's collectives use too.

    Args:
        group: see ``connect``.
    """
    return simulated() or (Alone(group) if _one_worker(group) else Gloo(Links(group, group)))


def _connect_gloo(group: dist.ProcessGroup | None, timeout: timedelta | None) -> Transport:
    return Alone(group) if _one_worker(group) else Gloo(take_links(group, timeout))


def _connect_threads(group: dist.ProcessGroup | None, timeout: timedelta | None) -> Transport:
    found = simulated()
    if found is None:
        raise ValueError("transport: threads is there inside thinwire.simulate only")
    return found


def _one_worker(group: dist.ProcessGroup | None) -> bool:
    there = dist.is_available() and dist.is_initialized()
    return not there or dist.get_world_size(group) == 1


_CONNECT: dict[str, Connect] = {"gloo": _connect_gloo, "threads": _connect_threads}
