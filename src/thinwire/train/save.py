"""Writing a checkpoint together: every worker its file, worker 0 the rest."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from thinwire.exchange import Wire
from thinwire.files import writing
from thinwire.train.agreement import gather_texts, keeping_in_touch
from thinwire.train.checkpoint import (
    FOLDER,
    MODEL,
    Checkpoint,
    Facts,
    checkpoints_in,
    give_name,
    name_of_step,
    remove_leftovers,
    worker_file,
    write_manifest,
    write_tensors,
)
from thinwire.train.training import State

_FAILED = "failed: "


class Saver:
    """Writes checkpoints of one run and keeps the last few.

    Attributes:
        newest: steps and trials of the newest checkpoint, None before the first.

    Args:
        run_folder: the run folder; all workers must see the same one.
        wire: the workers.
        keep: how many to keep.
        resumed: the checkpoint the run goes on from.
    """

    def __init__(
        self, run_folder: Path, wire: Wire, keep: int, resumed: Checkpoint | None = None
    ) -> None:
        self._root, self._run_folder = run_folder / FOLDER, run_folder
        self._wire, self._keep = wire, keep
        if wire.rank == 0:
            remove_leftovers(run_folder)
        # Others in the folder are an earlier run's, or were refused, and go with the next save.
        self._own: set[Path] = set()
        self.newest: tuple[int, int] | None = None
        if resumed is not None and resumed.folder.parent.resolve() == self._root.resolve():
            names = {path.name for path in checkpoints_in(run_folder)}
            newest = resumed.folder.name
            self._own = {self._root / name for name in names if name <= newest}
            self.newest = resumed.progress if resumed.world == wire.world else None

    def save(self, state: State, whole: Mapping[str, Tensor], facts: Facts) -> str:
        """Write a checkpoint of all workers.

        Args:
            state: this worker's.
            whole: the model's ``state_dict()``, not split.
            facts: for the manifest, the same on every worker.

        Returns:
            Nothing if it was written, else why not, the same on every worker. A checkpoint that
            cannot be written does not end a run, and leaves nothing behind.
        """
        reason = self._save(state, whole, facts)
        if not reason:
            self.newest = state.counts.progress
        elif self._wire.rank == 0:
            shutil.rmtree(self._temporary(state), ignore_errors=True)
        return reason

    def _save(self, state: State, whole: Mapping[str, Tensor], facts: Facts) -> str:
        rank = self._wire.rank
        final = self._root / name_of_step(state.counts.steps)
        temporary = self._temporary(state)
        shared = {**facts, "world": self._wire.world, "run": state.shared()}
        tensors, own = state.own()
        reason = self._failures(self._attempt(lambda: _fresh(temporary) if rank == 0 else ""))
        if reason:
            return reason
        path = temporary / worker_file(rank)
        written = self._attempt(lambda: write_tensors(path, tensors, own))
        files = gather_texts(written, self._wire)
        reason = _first_failure(files)
        if reason:
            return reason

        def complete() -> str:
            return self._complete(whole, temporary, final, shared, files) if rank == 0 else ""

        return self._failures(self._attempt(complete))

    def _temporary(self, state: State) -> Path:
        return self._root / f".{name_of_step(state.counts.steps)}.part"

    def _complete(
        self,
        whole: Mapping[str, Tensor],
        temporary: Path,
        final: Path,
        facts: Facts,
        files: list[str],
    ) -> str:
        """Worker 0: the model, the manifest, the name; then the old ones go."""
        named = {worker_file(rank): text for rank, text in enumerate(files)}
        for name, text in named.items():
            path = temporary / name
            if not path.is_file() or path.stat().st_size != int(text.split()[0]):
                raise OSError(f"{path} is not here: all workers must share the run folder")
        named[MODEL] = write_tensors(temporary / MODEL, whole, {})
        write_manifest(temporary, facts, named)
        give_name(temporary, final)
        self._own.add(final)
        kept = sorted(self._own, key=lambda path: path.name, reverse=True)[: self._keep]
        for path in checkpoints_in(self._run_folder):
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)
        self._own = set(kept)
        return ""

    def _attempt(self, work: Callable[[], str]) -> str:
        def attempt() -> str:
            try:
                return work()
            except OSError as error:
                # Short names: only the beginning of a text reaches the others.
                return f"{_FAILED}{error}".replace(f"{self._run_folder}/", "")

        return keeping_in_touch(attempt, self._wire)

    def _failures(self, own: str) -> str:
        return _first_failure(gather_texts(own, self._wire))


def _first_failure(texts: list[str]) -> str:
    for rank, text in enumerate(texts):
        if text.startswith(_FAILED):
            return f"worker {rank}: {text.removeprefix(_FAILED)}"
    return ""


def _fresh(folder: Path) -> str:
    """Make an empty folder, in a run folder that is still there."""
    shutil.rmtree(folder, ignore_errors=True)
    with writing(folder):
        folder.parent.mkdir(exist_ok=True)
        folder.mkdir()
    return ""
