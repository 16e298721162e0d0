"""FSDP2: stage 1 of the exchange as the reduce-scatter of fully sharded training."""

from thinwire.fsdp.reduce_scatter import OneBitReduceScatter
from thinwire.fsdp.whole_model import ShardedState

__all__ = ["OneBitReduceScatter", "ShardedState"]
