"""What one worker wishes for, all learn at the same step: a byte per worker and step.

The byte travels while the next step computes; what was wished before one step is agreed on before
the next. So it costs no waiting, and no worker can stop while another goes on.
"""

import signal
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from thinwire.exchange import Wire

SAVE = 1  # a checkpoint is due
_BIT_OF = {signal.SIGINT: 2, signal.SIGTERM: 4}


def wish_to_stop(number: int) -> int:
    """The wish to stop because of a signal; 0 is none."""
    return _BIT_OF.get(number, 0)  # type: ignore[call-overload, no-any-return]


def signal_of(agreed: int) -> int:
    """The signal for which the workers stop, or 0."""
    return next((number for number, bit in _BIT_OF.items() if agreed & bit), 0)


class Agreement:
    """The wishes of all workers.

    Args:
        wire: the workers; only the main thread may use it.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._pending: Callable[[], int] = lambda: 0

    def post(self, wish: int) -> None:
        """Tell the others; returns at once. Every worker must call it once per step."""
        if self._wire.world == 1:
            self._pending = lambda: wish
            return
        everyone = [torch.zeros(1, dtype=torch.uint8) for _ in range(self._wire.world)]
        own = torch.tensor([wish], dtype=torch.uint8)
        work = dist.all_gather(everyone, own, group=self._wire.group, async_op=True)
        peers = self._wire.world - 1
        self._wire.ledger.record("agreement", messages=peers, bytes=peers)
        self._pending = lambda: _union(work, everyone)

    def receive(self) -> int:
        """All workers' wishes of the last ``post``, or-ed; the same on every worker."""
        pending, self._pending = self._pending, lambda: 0
        return pending()


def share_text(text: str, wire: Wire) -> str:
    """Worker 0's text on every worker. Plain bytes: nothing is pickled."""
    if wire.world == 1:
        return text
    raw = text.encode()
    size = torch.tensor([len(raw)])
    wire.broadcast(size, "agreement")
    content = torch.zeros(int(size), dtype=torch.uint8)
    if wire.rank == 0 and raw:
        content.copy_(torch.frombuffer(bytearray(raw), dtype=torch.uint8))
    wire.broadcast(content, "agreement")
    return bytes(content.tolist()).decode()


def gather_texts(text: str, wire: Wire) -> list[str]:
    """Every worker's text (its first 500 bytes), in rank order, on every worker."""
    padded = text.encode()[:500].ljust(500)
    packet = torch.frombuffer(bytearray(padded), dtype=torch.uint8)
    texts = [bytes(other.tolist()) for other in wire.all_gather(packet, "checkpoint")]
    return [raw.decode(errors="replace").rstrip() for raw in texts]


def _union(work: "dist.Work", everyone: list[Tensor]) -> int:
    work.wait()
    agreed = 0
    for wish in everyone:
        agreed |= int(wish)
    return agreed
