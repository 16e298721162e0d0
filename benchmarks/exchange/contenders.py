"""What is compared in the exchange benchmark: ways to turn K gradients into their mean.

Each is used as DistributedDataParallel uses it: as a communication hook that is handed a bucket and
gives back a future. ``Bucket`` stands in for DDP's own, so that nothing but the exchange is timed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook

import thinwire

Hook = Callable[[Any, Any], torch.futures.Future[Tensor]]


class Bucket:
    """As much of ``torch.distributed.GradBucket`` as hooks use: one bucket, of one matrix."""

    def __init__(self, rows: int, columns: int) -> None:
        self._parameter = torch.nn.Parameter(torch.empty(rows, columns))
        self._buffer = torch.zeros(rows * columns)

    def index(self) -> int:
        """Always the first."""
        return 0

    def is_last(self) -> bool:
        """And the last."""
        return True

    def buffer(self) -> Tensor:
        """``[values]``."""
        return self._buffer

    def set_buffer(self, buffer: Tensor) -> None:
        """Another tensor in its place."""
        self._buffer = buffer

    def gradients(self) -> list[Tensor]:
        """Views of the buffer."""
        return [self._buffer.view_as(self._parameter)]

    def parameters(self) -> list[torch.nn.Parameter]:
        """Whose gradients they are."""
        return [self._parameter]


@dataclass
class Contender:
    """A hook and its state.

    Attributes:
        name: as in tables.
        hook: as registered with DDP.
        state: its first argument.
        warm_up: calls before it does what it is here for.
    """

    name: str
    hook: Hook
    state: Any
    warm_up: int = 1

    def exchange(self, bucket: Bucket) -> Tensor:
        """The mean over workers of what is in the bucket."""
        return self.hook(self.state, bucket).wait()

    @property
    def ledger_bytes(self) -> int | None:
        """Bytes it says it has sent so far; None if it keeps no ledger."""
        ledger = getattr(self.state, "ledger", None)
        return None if ledger is None else int(ledger.total().bytes)


def all_reduce_hook(_: object, bucket: Any) -> torch.futures.Future[Tensor]:
    """What DDP does without a hook: divide, then float32 all_reduce."""
    buffer = bucket.buffer().div_(dist.get_world_size())
    work = dist.all_reduce(buffer, async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


def power_sgd(rank: int) -> Contender:
    """PyTorch's PowerSGD; its first two calls are dense because DDP rebuilds buckets."""
    state = PowerSGDState(
        None, matrix_approximation_rank=rank, start_powerSGD_iter=2, min_compression_rate=0.5
    )
    return Contender(f"PowerSGD rank {rank}", powerSGD_hook, state, warm_up=3)


def one_bit(code: str) -> Contender:
    """The library's hook."""
    return Contender(f"thinwire {code}", thinwire.onebit_hook, thinwire.OneBitState(code=code))


CONTENDERS: dict[str, Callable[[], Contender]] = {
    "dense": lambda: Contender("dense", all_reduce_hook, None),
    "fp16": lambda: Contender("fp16", fp16_compress_hook, None),
    "thinwire sign": lambda: one_bit("sign"),
    "thinwire rotated": lambda: one_bit("rotated"),
    "PowerSGD rank 1": lambda: power_sgd(1),
    "PowerSGD rank 2": lambda: power_sgd(2),
    "PowerSGD rank 4": lambda: power_sgd(4),
}
