"""Copies: of worker 0's tensors to every worker, and of what cannot be copied."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from thinwire.exchange.wire import Wire


@torch.no_grad()
def copy_from_first(tensors: Sequence[Tensor], wire: Wire, stage: str) -> None:
    """Overwrite tensors by worker 0's to the last bit, in one broadcast of their bytes.

    Args:
        tensors: of the same shapes and dtypes on every worker, on one device.
        wire: the workers.
        stage: where the ledger enters it.
    """
    if wire.world == 1 or not tensors:
        return
    content = torch.cat([tensor.detach().reshape(-1).view(torch.uint8) for tensor in tensors])
    wire.broadcast(content, stage)
    sizes = [tensor.numel() * tensor.itemsize for tensor in tensors]
    for tensor, part in zip(tensors, content.split(sizes), strict=True):
        # A copy, since a view as wider values must begin at a multiple of their size.
        tensor.copy_(part.clone().view(tensor.dtype).view(tensor.shape))


def refuse_copy(thing: object) -> NoReturn:
    """Refuse to copy or pickle what is bound to this process.

    Raises:
        TypeError: always, naming the class and what to do.
    """
    raise TypeError(
        f"{type(thing).__name__} cannot be copied or pickled: it holds connections to the other "
        "workers. Copy or store its state_dict(), and load that into a new one"
    )
