"""Transports: how packets of K workers move. Nothing else in the library asks what carries them."""

from thinwire.exchange.transport.alone import Alone
from thinwire.exchange.transport.contact import ContactLostError
from thinwire.exchange.transport.gloo import Gloo
from thinwire.exchange.transport.protocol import Messages, Transport
from thinwire.exchange.transport.registry import connect, register_transport, share, transport_names
from thinwire.exchange.transport.threads import Threads, simulate

__all__ = [
    "Alone",
    "ContactLostError",
    "Gloo",
    "Messages",
    "Threads",
    "Transport",
    "connect",
    "register_transport",
    "share",
    "simulate",
    "transport_names",
]
