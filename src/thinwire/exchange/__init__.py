"""Who sends what to whom and when: stripes, packets, the two stages, accounts, what is kept."""

from thinwire.exchange.all_reduce import all_reduce
from thinwire.exchange.coded_sum import CodedSum
from thinwire.exchange.fifo import Fifo
from thinwire.exchange.functional import CountCollectives
from thinwire.exchange.ledger import Ledger, Traffic
from thinwire.exchange.packet import HEADER_BYTES, Header
from thinwire.exchange.part import Part, move_owner_residuals
from thinwire.exchange.reshard import reshard
from thinwire.exchange.state import (
    State,
    check_counts,
    copy_entry,
    counts_of,
    with_counts,
    without_counts,
)
from thinwire.exchange.stripes import Stripe, split
from thinwire.exchange.timeline import TERMS, Span, Timeline, span
from thinwire.exchange.two_stage import NonFiniteUpdateError, TwoStage
from thinwire.exchange.wire import Wire, own_wire

__all__ = [
    "HEADER_BYTES",
    "TERMS",
    "CodedSum",
    "CountCollectives",
    "Fifo",
    "Header",
    "Ledger",
    "NonFiniteUpdateError",
    "Part",
    "Span",
    "State",
    "Stripe",
    "Timeline",
    "Traffic",
    "TwoStage",
    "Wire",
    "all_reduce",
    "check_counts",
    "copy_entry",
    "counts_of",
    "move_owner_residuals",
    "own_wire",
    "reshard",
    "span",
    "split",
    "with_counts",
    "without_counts",
]
