"""An optimiser's state in a checkpoint's files: each worker's own, and once what all share.

Tensors are named "optimizer/PARAMETER.KIND"; those of the inner optimiser of local steps begin with
"inner/".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from thinwire.exchange import counts_of, with_counts
from thinwire.exchange.state import REPLICATED
from thinwire.train.checkpoint import Checkpoint, Facts, StoredTensors, worker_file

INNER = "inner/"


def stored_parts(state: Mapping[str, Any], rank: int) -> tuple[dict[str, Tensor], Facts]:
    """What one worker stores of its optimiser's ``state_dict()``.

    What is the same on every worker, worker 0 stores. Of an inner optimiser's groups nothing is
    stored: a recipe has their options.
    """
    names = _names(state["param_groups"])
    tensors, owned = {}, {}
    for i, entry in state["state"].items():
        for kind, value in entry.items():
            if kind == "owned":
                owned[names[i]] = value
            elif rank == 0 or kind not in REPLICATED:
                tensors[f"optimizer/{names[i]}.{kind}"] = value
    for i, entry in state.get("inner", {"state": {}})["state"].items():
        found = {kind: value for kind, value in entry.items() if isinstance(value, Tensor)}
        tensors |= {f"{INNER}{names[i]}.{kind}": value for kind, value in found.items()}
    return tensors, {"owned": owned, "optimizer": counts_of(state)}


def stored_files(checkpoint: Checkpoint) -> list[StoredTensors]:
    """Every worker's file, in rank order."""
    return [StoredTensors(checkpoint.folder / worker_file(old)) for old in range(checkpoint.world)]


def stored_states(
    files: Sequence[StoredTensors], groups: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What every worker's ``state_dict()`` was; tensors are read when needed.

    Args:
        files: every worker's.
        groups: the optimiser's parameter groups.
    """
    states = []
    for file in files:
        entries = [_StoredEntry(file, files[0], name) for name in _names(groups)]
        state = {"state": dict(enumerate(entries)), "param_groups": groups}
        states.append(with_counts(state, file.facts["optimizer"]))
    return states


def inner_state(file: StoredTensors, groups: list[dict[str, Any]]) -> dict[int, dict[str, Tensor]]:
    """What one worker's inner optimiser kept, by position of the parameter.

    Args:
        file: the worker's.
        groups: the anchor's parameter groups, whose order is the inner optimiser's.
    """
    number_of = {name: i for i, name in enumerate(_names(groups))}
    found: dict[int, dict[str, Tensor]] = {}
    for stored in file:
        if stored.startswith(INNER):
            name, _, kind = stored.removeprefix(INNER).rpartition(".")
            found.setdefault(number_of[name], {})[kind] = file[stored]
    return found


def _names(groups: list[dict[str, Any]]) -> list[str]:
    return [name for group in groups for name in group["param_names"]]


class _StoredEntry(Mapping[str, Any]):
    """One parameter's entry of a worker's state; worker 0's file holds what all share."""

    def __init__(self, file: StoredTensors, first: StoredTensors, name: str) -> None:
        self._prefix = f"optimizer/{name}."
        self._owned = file.facts["owned"].get(name)
        kinds = dict.fromkeys(self._kinds_in(file), file)
        shared = {kind: first for kind in self._kinds_in(first) if kind in REPLICATED}
        self._file_of = {**kinds, **shared}

    def __getitem__(self, kind: str) -> Any:
        if kind == "owned" and self._owned is not None:
            return tuple(self._owned)
        return self._file_of[kind][self._prefix + kind]

    def __iter__(self) -> Iterator[str]:
        yield from self._file_of
        if self._owned is not None:
            yield "owned"

    def __len__(self) -> int:
        return len(self._file_of) + (self._owned is not None)

    def _kinds_in(self, file: StoredTensors) -> Iterator[str]:
        for name in file:
            prefix, _, kind = name.rpartition(".")
            if prefix + "." == self._prefix:
                yield kind
