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
from thinwire.exchange import TwoStage
from thinwire.quantize import Columns, column_lengths, named_code

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


class BareLoop:
    """Two of gloo's collectives around the library's arithmetic, one after another.

    No thread, no early sending, no wire of its own: what a short script would do, and the limit
    that the hook is held against.

    Args:
        bucket: what will be exchanged.
        code: how.
    """

    def __init__(self, bucket: Bucket, code: str) -> None:
        rows, columns = bucket.gradients()[0].shape
        self._code = named_code(code)
        self._stages = TwoStage(
            Columns.from_lengths(column_lengths((rows, columns))),
            dist.get_rank(),
            dist.get_world_size(),
        )

    def hook(self, _: object, bucket: Any) -> torch.futures.Future[Tensor]:
        """Exchange a bucket."""
        stages, code, gradient = self._stages, self._code, bucket.buffer()
        world, sizes = len(stages.stripes), stages.packet_bytes(code)
        packets = stages.new_packets(code)
        stages.quantise(code, 1.0, packets, gradient)
        incoming = [torch.empty_like(packets[stages.rank]) for _ in range(world)]
        dist.all_to_all(incoming, packets)
        stages.sum(code, incoming)
        stages.worker.commit()
        update = stages.new_update(code)
        stages.requantise(code, update)
        gathered = [update.new_empty(size) for size in sizes]
        dist.all_gather(gathered, update)
        for owner, packet in enumerate(gathered):
            stages.decode(code, owner, packet, gradient, world)
        stages.owner.commit()
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        future.set_result(gradient)
        return future


CONTENDERS: dict[str, Callable[[Bucket], Contender]] = {
    "dense": lambda _: Contender("dense", all_reduce_hook, None),
    "fp16": lambda _: Contender("fp16", fp16_compress_hook, None),
    "bare loop sign": lambda bucket: Contender(
        "bare loop sign", BareLoop(bucket, "sign").hook, None
    ),
    "thinwire sign": lambda _: one_bit("sign"),
    "thinwire rotated": lambda _: one_bit("rotated"),
    "thinwire 4-bit": lambda _: one_bit("4-bit"),
    "PowerSGD rank 1": lambda _: power_sgd(1),
    "PowerSGD rank 2": lambda _: power_sgd(2),
    "PowerSGD rank 4": lambda _: power_sgd(4),
}
