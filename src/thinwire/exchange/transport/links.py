"""Connections between workers: made once, and lent to one exchange after another.

torch names a process group by how many there are, so groups cannot be destroyed one by one while
workers do so at different times, as garbage collection does. Whoever makes many optimisers would
pile up connections and threads. So an exchange that has ended leaves its connections to the next
one between the same workers.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

_MANY = 8  # links after which it is worth to look for those that nobody holds any more
_Key = tuple[tuple[int, ...], timedelta | None]


@dataclass(eq=False)
class Links:
    """Two process groups of the same workers, for one transport at a time.

    Attributes:
        own: one of them; None is the default group.
        back: the other; may be the same.
        lent: whether a transport has them.
        under_way: operations that were begun and have not ended. One that failed stays, and then
            the links are never lent again.
    """

    own: dist.ProcessGroup | None
    back: dist.ProcessGroup | None
    lent: bool = True
    under_way: int = 0

    def release(self) -> None:
        """Let another transport have them."""
        self.lent = False

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Something is under way inside."""
        self.under_way += 1
        yield
        self.under_way -= 1


class _Known:
    """The links that have been made under one default group, the same on every worker."""

    def __init__(self, default: dist.ProcessGroup | None) -> None:
        self.default = default
        self.links: dict[_Key, list[Links]] = {}


_known = _Known(None)


def take_links(group: dist.ProcessGroup | None, timeout: timedelta | None) -> Links:
    """Return links between the workers of a group, for one transport alone.

    Every worker must ask at the same point. Those of the default group agree on links that all of
    them have free, in one small all-reduce, or make new ones. Other groups always get new ones:
    workers that are in different groups have made different ones before.

    Args:
        group: the workers; None is the default group.
        timeout: after which a worker that does not answer is an error; None is torch's own.
    """
    global _known
    if _known.default is not dist.group.WORLD:  # the script has begun anew
        _known = _Known(dist.group.WORLD)
    ranks = dist.get_process_group_ranks(group)
    default = group is None or group is dist.group.WORLD
    made = _known.links.setdefault((tuple(ranks), timeout), []) if default else []
    found = _free_everywhere(made, group)
    if made and found is None and len(made) % _MANY == 0:
        gc.collect()  # optimisers that were dropped let go of theirs
        found = _free_everywhere(made, group)
    if found is None:
        own, back = (
            dist.new_group(ranks, timeout=timeout, use_local_synchronization=True) for _ in range(2)
        )
        found = Links(own, back)
        made.append(found)
    found.lent = True
    return found


def _free_everywhere(made: Sequence[Links], group: dist.ProcessGroup | None) -> Links | None:
    """The first links that no worker uses, on all workers the same."""
    if not made:
        return None
    busy = [links.lent or links.under_way for links in made]
    free = torch.tensor([not b for b in busy], dtype=torch.uint8, device="cpu")
    dist.all_reduce(free, dist.ReduceOp.MIN, group=group)
    return next((links for links, everywhere in zip(made, free, strict=True) if everywhere), None)
