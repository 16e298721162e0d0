"""Measures one exchange: all contenders at one size, in turns, on every worker."""

import time
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.exchange.contenders import CONTENDERS, Bucket, Contender
from benchmarks.timing import in_turns, mean_over_workers, over_workers
from benchmarks.worker import counters

# One matrix each: as near to square as powers of two come, so that PowerSGD is at its best.
SHAPES = {
    "64k": (256, 256),
    "1M": (1024, 1024),
    "2M": (1024, 2048),
    "8M": (2048, 4096),
    "25M": (4096, 6144),
    "50M": (8192, 6144),
}


def one_exchange(
    contender: Contender, bucket: Bucket, gradient: torch.Tensor, device: str
) -> dict[str, float]:
    """Return the slowest worker's seconds, from a barrier on, and what this worker sent."""
    bucket.buffer().copy_(gradient)
    booked = contender.ledger_bytes or 0
    dist.barrier()
    before, started = counters(device), time.perf_counter()
    contender.exchange(bucket)
    seconds = time.perf_counter() - started
    dist.barrier()
    sent = counters(device) - before
    return {
        "seconds": over_workers(seconds, dist.ReduceOp.MAX),
        "tx_bytes": sent.tx_bytes,
        "payload_bytes": sent.tx_payload,
        "ledger_bytes": (contender.ledger_bytes or 0) - booked,
    }


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Return for every contender its seconds and, as means over repeats and workers, its bytes."""
    rows, columns = SHAPES[settings["values"]]
    generator = torch.Generator().manual_seed(dist.get_rank())
    gradient = torch.randn(rows * columns, generator=generator)
    bucket = Bucket(rows, columns)
    contenders = [CONTENDERS[name](bucket) for name in settings["contenders"]]
    for contender in contenders:
        for _ in range(contender.warm_up - 1):
            one_exchange(contender, bucket, gradient, settings["device"])
    work = {
        contender.name: partial(one_exchange, contender, bucket, gradient, settings["device"])
        for contender in contenders
    }
    turns = in_turns(work, settings["repeats"], timed=lambda job: job())
    found: dict[str, Any] = {}
    for contender in contenders:
        own = turns[contender.name]
        kept = ["tx_bytes", "payload_bytes"]
        kept += ["ledger_bytes"] if contender.ledger_bytes is not None else []
        found[contender.name] = {"seconds": [one["seconds"] for one in own]}
        for name in kept:
            mean = sum(one[name] for one in own) / len(own)
            found[contender.name][name] = round(mean_over_workers(mean))
    return found
