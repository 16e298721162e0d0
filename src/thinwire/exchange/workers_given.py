"""Whether a front end was made where its workers can be found."""

import os

import torch.distributed as dist

from thinwire.exchange.wire import Wire


def check_group_exists(wire: Wire, what: str) -> None:
    """Refuse a front end that would work alone in a job that has several workers.

    Args:
        wire: what it was made with.
        what: its name, for the message.

    Raises:
        RuntimeError: torch.distributed is not initialised, and the launcher's WORLD_SIZE says that
            there are several workers.
    """
    workers = os.environ.get("WORLD_SIZE", "1")
    alone = wire.world == 1 and not (dist.is_available() and dist.is_initialized())
    if alone and workers.isdecimal() and int(workers) > 1:
        raise RuntimeError(
            f"{what}: WORLD_SIZE is {workers}, and torch.distributed is not initialised, so this "
            "worker would train alone: call torch.distributed.init_process_group first"
        )


class MadeAlone:
    """Remembers whether a front end was made before any process group.

    Args:
        what: its name, for the message.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._before = not (dist.is_available() and dist.is_initialized())

    def check(self) -> None:
        """Refuse to go on alone where a process group of several workers has appeared since.

        Raises:
            RuntimeError: it has.
        """
        if self._before and dist.is_available() and dist.is_initialized():
            world = dist.get_world_size()
            if world > 1:
                raise RuntimeError(
                    f"{self._what}: it was made before torch.distributed.init_process_group and "
                    f"would go on alone beside {world - 1} other worker(s): make it afterwards"
                )
