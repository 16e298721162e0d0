"""Who am I among the workers: torchrun, Slurm or alone, and the process group of the job."""

import gc
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from thinwire.train.local_workers import local_store


@dataclass(frozen=True)
class Workers:
    """This process among all.

    Attributes:
        rank: this worker, 0 .. world - 1.
        world: number of workers, K.
    """

    rank: int = 0
    world: int = 1


def detect_workers(environment: Mapping[str, str] = os.environ) -> Workers | None:
    """This worker as torchrun or Slurm describes it, or None when neither launched it.

    Raises:
        ValueError: a variable is not a number.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = "RANK", "WORLD_SIZE"
    elif "SLURM_PROCID" in environment and "SLURM_NTASKS" in environment:
        names = "SLURM_PROCID", "SLURM_NTASKS"
    else:
        return None
    numbers = []
    for name in names:
        if not environment[name].isdecimal():
            raise ValueError(f"${name}: expected a number, got {environment[name]!r}")
        numbers.append(int(environment[name]))
    return Workers(*numbers)


def rendezvous_variables(workers: Workers, environment: Mapping[str, str]) -> dict[str, str]:
    """What torch.distributed's env:// rendezvous needs and the launcher did not set.

    torchrun sets everything. Under Slurm worker 0 runs on the first node of the list, and a port
    derived from the job's number keeps jobs on one node apart.
    """
    wanted = {"RANK": str(workers.rank), "WORLD_SIZE": str(workers.world)}
    if "MASTER_ADDR" not in environment:
        nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "")
        wanted["MASTER_ADDR"] = first_node(nodes) or "127.0.0.1"
    if "MASTER_PORT" not in environment:
        wanted["MASTER_PORT"] = str(20000 + int(environment.get("SLURM_JOB_ID", "0")) % 20000)
    return wanted


def first_node(nodes: str) -> str:
    """The first host of a Slurm node list.

    >>> first_node("gpu[07-09,12],login"), first_node("a1,a2"), first_node("")
    ('gpu07', 'a1', '')
    """
    match = re.match(r"([^\[,]*)(?:\[([^\],-]+))?", nodes)
    return "".join(part or "" for part in match.groups()) if match else ""


@contextmanager
def worker_processes(workers: Workers, timeout: timedelta) -> Iterator[None]:
    """The job's default process group (gloo), where there is more than one worker.

    Args:
        workers: this process.
        timeout: of its collectives.
    """
    if workers.world == 1:
        yield
        return
    os.environ.update(rendezvous_variables(workers, os.environ))
    world, rank = workers.world, workers.rank
    local = local_store(world)
    if local is not None:
        dist.init_process_group("gloo", store=local, rank=rank, world_size=world, timeout=timeout)
    elif os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        store = fresh_store(workers, timeout)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timeout)
    else:
        dist.init_process_group("gloo", timeout=timeout)
    yield
    # Only after success: after a failure peers may be gone and destroying would wait for them.
    gc.collect()  # objects that still hold a group abort the process at exit (torch #190489)
    dist.destroy_process_group()


def fresh_store(workers: Workers, timeout: timedelta) -> PrefixStore:
    """Torchrun's store without what workers wrote there before a restart.

    torchrun keeps one store over all restarts; from it new workers would read the addresses of
    dead ones (torch #135712). Its restart counts differ from node to node and cannot tell the
    attempts apart.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=timeout)
    return PrefixStore(f"thinwire/{agree_on_attempt(store, workers, timeout)}", store)


def agree_on_attempt(store: Store, workers: Workers, timeout: timedelta) -> str:
    """A name that only the workers that are alive now share.

    Every worker leaves a fresh name of its own, worker 0 answers to that name. What it answers to
    a dead worker's name nobody reads.

    Raises:
        RuntimeError: a worker did not join in time.
    """
    own = uuid.uuid4().hex
    if workers.rank > 0:
        store.set(f"thinwire/hello/{workers.rank}", own)
        attempt = store.get(f"thinwire/answer/{own}").decode()
        store.set(f"thinwire/here/{attempt}/{workers.rank}", "")
        return attempt
    deadline = time.monotonic() + timeout.total_seconds()
    waiting = set(range(1, workers.world))
    while waiting:
        if time.monotonic() > deadline:
            raise RuntimeError(f"worker {min(waiting)} did not join within the time-out")
        for rank in sorted(waiting):
            if store.check([f"thinwire/hello/{rank}"]):
                store.set(f"thinwire/answer/{store.get(f'thinwire/hello/{rank}').decode()}", own)
                if store.check([f"thinwire/here/{own}/{rank}"]):
                    waiting.discard(rank)
        time.sleep(0.01)
    return own
