"""Replicas must be identical to the bit: their fingerprints, compared."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from thinwire.exchange import Wire


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a model's ``state_dict()``, parameters and buffers by name, as hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {[*tensor.shape]}\n".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()


def compare_replicas(state: Mapping[str, Tensor], wire: Wire) -> str:
    """The fingerprint all workers share.

    Raises:
        RuntimeError: on every worker, if they differ, naming the workers that differ from
            worker 0.
    """
    own = fingerprint(state)
    packet = torch.frombuffer(bytearray.fromhex(own), dtype=torch.uint8)
    everyone = wire.all_gather(packet, "evaluation")
    differ = [rank for rank, other in enumerate(everyone) if not torch.equal(other, everyone[0])]
    if differ:
        raise RuntimeError(f"replicas differ: workers {differ} do not hold worker 0's parameters")
    return own
