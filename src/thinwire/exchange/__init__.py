"""Who sends what to whom and when: buckets, the two stages, transports, accounts, what is kept."""

from thinwire.exchange.alike import DifferentWorkersError, check_alike, digest_of
from thinwire.exchange.all_reduce import all_reduce
from thinwire.exchange.bucket import Bucket, ParameterBucket
from thinwire.exchange.coded_sum import CodedSum
from thinwire.exchange.config import DROP_IN_CODE, EXACT, SERIAL, Codes, ExchangeConfig
from thinwire.exchange.copies import copy_from_first, refuse_copy
from thinwire.exchange.fifo import Fifo
from thinwire.exchange.functional import CountCollectives
from thinwire.exchange.ledger import Ledger, Traffic
from thinwire.exchange.ownership import share_out
from thinwire.exchange.packet import HEADER_BYTES, Header, Remarks
from thinwire.exchange.regroup import Membership
from thinwire.exchange.reshard import reshard
from thinwire.exchange.samples import SampleCount
from thinwire.exchange.shards import as_real, local
from thinwire.exchange.state import (
    INNER,
    State,
    check_counts,
    copy_entry,
    counts_of,
    entries,
    with_counts,
    without_counts,
)
from thinwire.exchange.stripes import Stripe, split
from thinwire.exchange.texts import share_text
from thinwire.exchange.timeline import TERMS, Span, Timeline, span
from thinwire.exchange.trainable import REAL, TRAINED, check_gradient, check_parameters
from thinwire.exchange.transport import (
    ContactLostError,
    Transport,
    register_transport,
    simulate,
    transport_names,
)
from thinwire.exchange.two_stage import NonFiniteUpdateError, TwoStage
from thinwire.exchange.verdict import Culprit, UpdateError, Verdict, joint
from thinwire.exchange.wire import Wire, own_wire, shared_wire
from thinwire.exchange.workers_given import MadeAlone, check_group_exists

__all__ = [
    "DROP_IN_CODE",
    "EXACT",
    "HEADER_BYTES",
    "INNER",
    "REAL",
    "SERIAL",
    "TERMS",
    "TRAINED",
    "Bucket",
    "CodedSum",
    "Codes",
    "ContactLostError",
    "CountCollectives",
    "Culprit",
    "DifferentWorkersError",
    "ExchangeConfig",
    "Fifo",
    "Header",
    "Ledger",
    "MadeAlone",
    "Membership",
    "NonFiniteUpdateError",
    "ParameterBucket",
    "Remarks",
    "SampleCount",
    "Span",
    "State",
    "Stripe",
    "Timeline",
    "Traffic",
    "Transport",
    "TwoStage",
    "UpdateError",
    "Verdict",
    "Wire",
    "all_reduce",
    "as_real",
    "check_alike",
    "check_counts",
    "check_gradient",
    "check_group_exists",
    "check_parameters",
    "copy_entry",
    "copy_from_first",
    "counts_of",
    "digest_of",
    "entries",
    "joint",
    "local",
    "own_wire",
    "refuse_copy",
    "register_transport",
    "reshard",
    "share_out",
    "share_text",
    "shared_wire",
    "simulate",
    "span",
    "split",
    "transport_names",
    "with_counts",
    "without_counts",
]
