"""Who sends what to whom: stripes, packets, the two-stage exchange, the traffic ledger."""

from thinwire.exchange.fifo import Fifo
from thinwire.exchange.ledger import Ledger, Traffic
from thinwire.exchange.packet import HEADER_BYTES, Header
from thinwire.exchange.stripes import Stripe, split
from thinwire.exchange.two_stage import NonFiniteUpdateError, TwoStage
from thinwire.exchange.wire import Wire

__all__ = [
    "HEADER_BYTES",
    "Fifo",
    "Header",
    "Ledger",
    "NonFiniteUpdateError",
    "Stripe",
    "Traffic",
    "TwoStage",
    "Wire",
    "split",
]
