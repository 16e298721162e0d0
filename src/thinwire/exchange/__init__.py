"""Who sends what to whom: stripes, packets, the two-stage exchange, the ledger, what is kept."""

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
from thinwire.exchange.two_stage import NonFiniteUpdateError, TwoStage
from thinwire.exchange.wire import Wire, own_group

__all__ = [
    "HEADER_BYTES",
    "CodedSum",
    "CountCollectives",
    "Fifo",
    "Header",
    "Ledger",
    "NonFiniteUpdateError",
    "Part",
    "State",
    "Stripe",
    "Traffic",
    "TwoStage",
    "Wire",
    "all_reduce",
    "check_counts",
    "copy_entry",
    "counts_of",
    "move_owner_residuals",
    "own_group",
    "reshard",
    "split",
    "with_counts",
    "without_counts",
]
