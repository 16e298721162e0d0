"""torch.distributed.checkpoint: the states of all workers that saved, however many load.

    dcp.save({"model": model.state_dict(), f"worker{rank}": state.state_dict()}, checkpoint_id=path)
    ...
    state.load_state_dict(thinwire.reshard(thinwire.saved_states(path), rank, world))

``dcp.load`` fills tensors that are there already. A hook that has seen no backward has none, and
those of another number of workers have other shapes, so what to read follows from the checkpoint's
own metadata.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from thinwire.exchange import State

Tree = dict[str | int, Any]  # of keys; a leaf is the key of what is stored


def saved_states(checkpoint_id: str | os.PathLike[str], prefix: str = "worker") -> list[State]:
    """What every worker saved under its own key, read when it is looked up.

    It is not a collective: every worker calls it for itself, and reads what ``reshard`` needs.

    Args:
        checkpoint_id: the folder ``torch.distributed.checkpoint.save`` wrote. Its metadata is a
            pickle: take it only from where you trust.
        prefix: worker k's key in the dict that was saved is ``f"{prefix}{k}"``.

    Returns:
        The states in rank order, for ``reshard``.

    Raises:
        ValueError: there is none under this prefix.
        FileNotFoundError: there is no such checkpoint.
    """
    source = _Checkpoint(checkpoint_id)
    states: list[State] = []
    while (tree := source.tree.get(f"{prefix}{len(states)}")) is not None:
        states.append(_Saved(source, tree))
    if not states:
        found = ", ".join(sorted(map(str, source.tree)))
        raise ValueError(f"{checkpoint_id}: expected a key {prefix}0, found {found or 'nothing'}")
    return states


class _Checkpoint:
    """One entry at a time out of a checkpoint, whose metadata is read once."""

    def __init__(self, checkpoint_id: str | os.PathLike[str]) -> None:
        self._reader = FileSystemReader(checkpoint_id)
        self._metadata: Metadata = self._reader.read_metadata()
        self._reader.set_up_storage_reader(self._metadata, is_coordinator=True)
        self.tree: Tree = {}
        for key, path in (self._metadata.planner_data or {}).items():
            node = self.tree
            for step in path[:-1]:
                node = node.setdefault(step, {})
            node[path[-1]] = key

    def read(self, key: str) -> Any:
        """The tensor or object stored under a key of the metadata."""
        stored = self._metadata.state_dict_metadata[key]
        target: dict[str, Any] = {key: None}
        if isinstance(stored, TensorStorageMetadata):
            target[key] = torch.empty(stored.size, dtype=stored.properties.dtype)
        planner = DefaultLoadPlanner()
        planner.set_up_planner(target, self._metadata, is_coordinator=True)
        plan = planner.create_global_plan([planner.create_local_plan()])[0]
        self._reader.read_data(planner.finish_plan(plan), planner).wait()
        return target[key]


class _Saved(Mapping[str, Any]):
    """A dictionary that was saved."""

    def __init__(self, source: _Checkpoint, tree: Tree) -> None:
        self._source, self._tree = source, tree

    def __getitem__(self, key: str) -> Any:
        return _open(self._source, self._tree[key])

    def __iter__(self) -> Iterator[str]:
        return map(str, self._tree)

    def __len__(self) -> int:
        return len(self._tree)


def _open(source: _Checkpoint, node: Any) -> Any:
    """An entry; lists, which are of param groups, are read whole."""
    if not isinstance(node, dict):
        return source.read(node)
    if all(isinstance(key, int) for key in node):
        return [_open(source, node[i]) for i in sorted(node)]
    return _Saved(source, node)
