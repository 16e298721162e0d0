"""Samples by number from files of many formats, and the global stream of minibatches."""

from thinwire.data.arrays import ArraySource
from thinwire.data.check import largest_class
from thinwire.data.fields import DataFields
from thinwire.data.functions import RowSource
from thinwire.data.idx import read_idx
from thinwire.data.idx_folder import IDX_NAMES, find_idx_files, load_idx_folder
from thinwire.data.kaldi import inspect_kaldi
from thinwire.data.mnist import find_mnist, load_mnist, mnist_cache
from thinwire.data.open import open_dataset
from thinwire.data.sampler import MinibatchSampler, shard, share_of
from thinwire.data.source import (
    Dataset,
    DataSource,
    Mapped,
    RunSource,
    View,
    content_digest,
    evenly_spaced,
    hold_out,
    lies_in_runs,
    order_of,
)
from thinwire.data.tables import ParquetSource
from thinwire.data.tensors import TensorSource, inputs_in_memory, map_samples

__all__ = [
    "IDX_NAMES",
    "ArraySource",
    "DataFields",
    "DataSource",
    "Dataset",
    "Mapped",
    "MinibatchSampler",
    "ParquetSource",
    "RowSource",
    "RunSource",
    "TensorSource",
    "View",
    "content_digest",
    "evenly_spaced",
    "find_idx_files",
    "find_mnist",
    "hold_out",
    "inputs_in_memory",
    "inspect_kaldi",
    "largest_class",
    "lies_in_runs",
    "load_idx_folder",
    "load_mnist",
    "map_samples",
    "mnist_cache",
    "open_dataset",
    "order_of",
    "read_idx",
    "shard",
    "share_of",
]
