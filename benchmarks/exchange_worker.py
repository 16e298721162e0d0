"""One worker of the exchange benchmark; started by ``benchmarks.exchange`` under torchrun.

    torchrun ... -m benchmarks.exchange_worker --values 8M --repeats 5 --out FILE

Contenders take turns within a repeat, so that whatever else the machine does meets all of them. A
time is from a barrier until the slowest worker is done.
"""

import argparse
import gc
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.contenders import CONTENDERS, Bucket, Contender
from benchmarks.lab import Counters, own_counters

# One matrix each: as near to square as powers of two come, so that PowerSGD is at its best.
SHAPES = {
    "64k": (256, 256),
    "1M": (1024, 1024),
    "2M": (1024, 2048),
    "8M": (2048, 4096),
    "25M": (4096, 6144),
    "50M": (8192, 6144),
}


def over_workers(number: float, how: dist.ReduceOp.RedOpType) -> float:
    """The sum or maximum of a number over workers."""
    tensor = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(tensor, how)
    return tensor.item()


def one_exchange(
    contender: Contender, bucket: Bucket, gradient: torch.Tensor, device: str
) -> tuple[float, Counters, int]:
    """Seconds of the slowest worker; what this one's wire carried; what its ledger grew by."""
    bucket.buffer().copy_(gradient)
    booked = contender.ledger_bytes or 0
    dist.barrier()
    before, started = own_counters(device), time.perf_counter()
    contender.exchange(bucket)
    seconds = time.perf_counter() - started
    dist.barrier()
    counters = own_counters(device) - before
    booked = (contender.ledger_bytes or 0) - booked
    return over_workers(seconds, dist.ReduceOp.MAX), counters, booked


def measure(
    names: list[str], shape: tuple[int, int], repeats: int, device: str
) -> dict[str, dict[str, Any]]:
    """All contenders at one size: a list of measurements each."""
    generator = torch.Generator().manual_seed(dist.get_rank())
    gradient = torch.randn(shape[0] * shape[1], generator=generator)
    bucket = Bucket(*shape)
    contenders = [CONTENDERS[name]() for name in names]
    results: dict[str, dict[str, Any]] = {
        name: {"seconds": [], "tx_bytes": [], "payload_bytes": [], "ledger_bytes": []}
        for name in names
    }
    for contender in contenders:
        for _ in range(contender.warm_up):
            one_exchange(contender, bucket, gradient, device)
    for _ in range(repeats):
        for contender in contenders:
            seconds, counters, booked = one_exchange(contender, bucket, gradient, device)
            result = results[contender.name]
            result["seconds"].append(seconds)
            result["tx_bytes"].append(counters.tx_bytes)
            result["payload_bytes"].append(counters.tx_payload)
            if contender.ledger_bytes is not None:
                result["ledger_bytes"].append(booked)
    return results


def mean_over_workers(results: dict[str, dict[str, Any]]) -> None:
    """Replace lists of bytes by their means over repeats and workers."""
    world = dist.get_world_size()
    for result in results.values():
        for name in ("tx_bytes", "payload_bytes", "ledger_bytes"):
            own = result.pop(name)
            if own:
                mean = over_workers(sum(own) / len(own), dist.ReduceOp.SUM) / world
                result[name] = round(mean)


def main() -> None:
    """Measure, and let worker 0 write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--values", choices=SHAPES, default="1M")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--device", default="eth0", help="the interface whose bytes are counted")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    shape = SHAPES[arguments.values]
    results = measure(arguments.only, shape, arguments.repeats, arguments.device)
    mean_over_workers(results)
    if dist.get_rank() == 0:
        arguments.out.write_text(json.dumps(results), encoding="utf-8")
    gc.collect()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
