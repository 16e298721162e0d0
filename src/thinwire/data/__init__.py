"""Data sets in memory, finding MNIST, and the global stream of minibatches."""

from thinwire.data.dataset import (
    IDX_NAMES,
    Dataset,
    Split,
    find_idx_files,
    hold_out,
    load_idx_folder,
)
from thinwire.data.idx import read_idx
from thinwire.data.mnist import find_mnist, load_mnist, mnist_cache
from thinwire.data.sampler import MinibatchSampler, shard

__all__ = [
    "IDX_NAMES",
    "Dataset",
    "MinibatchSampler",
    "Split",
    "find_idx_files",
    "find_mnist",
    "hold_out",
    "load_idx_folder",
    "load_mnist",
    "mnist_cache",
    "read_idx",
    "shard",
]
