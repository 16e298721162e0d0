"""Checkpoint files: tensors as safetensors, everything else as JSON; nothing is ever unpickled.

``checkpoints/step-00000240/`` holds ``model.safetensors``, ``worker-K.safetensors`` for every
worker and ``manifest.json``, which names them with sizes and SHA-256 and is written last. The
folder gets its name when it is complete, so a checkpoint exists as a whole or not at all.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from thinwire.files import FileError, open_regular, path_of, read_text, writing
from thinwire.train.manifest import Manifest, check_form

SCHEMA = 1
FOLDER = "checkpoints"
MANIFEST = "manifest.json"
MODEL = "model.safetensors"
MANIFEST_LIMIT = 1 << 26  # bytes; names and shapes of very many parameters

Facts = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are all what the manifest says.

    Attributes:
        folder: where it is.
        facts: the manifest.
    """

    folder: Path
    facts: Facts

    @property
    def step(self) -> int:
        """Minibatches trained."""
        return int(self.facts["run"]["counts"]["steps"])

    @property
    def progress(self) -> tuple[int, int]:
        """Minibatches trained, and minibatch sizes tried."""
        return self.step, int(self.facts["run"]["counts"].get("trials", 0))

    @property
    def world(self) -> int:
        """Number of workers that wrote it."""
        return int(self.facts["world"])


def worker_file(rank: int) -> str:
    """The name of one worker's file."""
    return f"worker-{rank}.safetensors"


def name_of_step(step: int) -> str:
    """The name of a checkpoint's folder."""
    return f"step-{step:08d}"


def checkpoints_in(run_folder: Path) -> list[Path]:
    """The run's complete checkpoints, newest first, not yet verified."""
    found = (run_folder / FOLDER).glob("step-*")
    numbered = [path for path in found if path.name.removeprefix("step-").isdecimal()]
    return sorted(numbered, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Facts) -> str:
    """Write one file, on the disk when this returns.

    Returns:
        Its size and SHA-256, as ``measure`` gives them.

    Raises:
        FileError: it cannot be written.
    """
    # A copy of each: views of one buffer cannot be written.
    separate = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    try:
        with writing(path):
            safetensors.torch.save_file(separate, path, metadata={"facts": json.dumps(facts)})
            _sync(path)
            return measure(path)
    except safetensors.SafetensorError as error:
        raise FileError(f"{path}: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one file."""
    with open_regular(path) as file:
        loaded: dict[str, Tensor] = safetensors.torch.load_file(path_of(file))
        return loaded


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of one file, read when they are asked for.

    Attributes:
        facts: what was written beside them.
    """

    def __init__(self, path: Path) -> None:
        opened: Any = safetensors.safe_open
        try:
            with open_regular(path) as file:
                self._file = opened(path_of(file), framework="pt")
            self.facts: Facts = json.loads((self._file.metadata() or {}).get("facts", "{}"))
        except (safetensors.SafetensorError, ValueError, RecursionError) as error:
            raise ValueError(f"{path.name}: cannot be read: {error}") from None
        self._names: dict[str, None] = dict.fromkeys(self._file.keys())
        if not all(map(str.isprintable, self._names)):
            raise ValueError(f"{path.name}: expected printable names of tensors, got others")

    def form(self, name: str) -> tuple[str, list[int]]:
        """The dtype, as safetensors calls it, and the shape of a tensor, which is not read."""
        found = self._file.get_slice(name)
        return found.get_dtype(), list(found.get_shape())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        tensor: Tensor = self._file.get_tensor(name)
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._names  # without reading the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def measure(path: Path) -> str:
    """A file's size in bytes and its SHA-256: "1234 9f86d0...".

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return _measure(file)


def write_manifest(folder: Path, facts: Facts, files: Mapping[str, str]) -> None:
    """Complete a checkpoint's folder by its manifest."""
    content = {"schema": SCHEMA, **facts, "files": dict(files)}
    path = folder / MANIFEST
    with writing(path):
        path.write_text(json.dumps({**content, "sha256": _digest(content)}, indent=1) + "\n")
        _sync(path)
        _sync(folder)


def give_name(temporary: Path, final: Path) -> None:
    """Rename a complete folder; one of that name, which was refused or is no newer, goes."""
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    with writing(final):
        if final.exists():
            final.replace(old)
        temporary.replace(final)
        _sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(run_folder: Path) -> None:
    """Remove what saves that were interrupted have left; a checkpoint's old place is given back."""
    for old in (run_folder / FOLDER).glob(".step-*.old"):
        final = old.with_name(old.name.removeprefix(".").removesuffix(".old"))
        with writing(final):
            if not final.exists():
                old.replace(final)
    for pattern in (".step-*.old", ".step-*.part"):
        for folder in (run_folder / FOLDER).glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Verify a checkpoint: the manifest and, byte for byte, every file it names.

    Raises:
        ValueError: what is wrong with it.
    """
    facts = _read_manifest(folder / MANIFEST)
    for name, expected in facts["files"].items():
        if Path(name).name != name:
            raise ValueError(f"{MANIFEST} names a file outside of the folder: {name!r}")
        _verify(folder / name, expected)
    missing = {MODEL, *map(worker_file, range(facts["world"]))} - facts["files"].keys()
    if missing:
        raise ValueError(f"{MANIFEST} does not name {sorted(missing)[0]}")
    return Checkpoint(folder, facts)


def _verify(path: Path, expected: str) -> None:
    try:
        file = open_regular(path)
    except FileNotFoundError:
        raise ValueError(f"{path.name} is missing") from None
    with file:
        size = os.fstat(file.fileno()).st_size
        if size != int(expected.split()[0]):
            raise ValueError(f"{path.name} has {size} bytes, expected {expected.split()[0]}")
        if _measure(file) != expected:
            raise ValueError(f"{path.name} has been altered: its SHA-256 is not the manifest's")


def _measure(file: BufferedReader) -> str:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{os.fstat(file.fileno()).st_size} {digest}"


def _read_manifest(path: Path) -> Facts:
    try:
        facts = json.loads(read_text(path, limit=MANIFEST_LIMIT))
    except FileNotFoundError:
        raise ValueError(f"{MANIFEST} is missing") from None
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} cannot be read: {error}") from None
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA or facts["schema"] is True:
        found = facts.get("schema") if isinstance(facts, dict) else None
        raise ValueError(f"{MANIFEST}: schema {repr(found)[:60]}, expected {SCHEMA}")
    digest = facts.pop("sha256", None)
    if digest != _digest(facts):
        raise ValueError(f"{MANIFEST} has been altered: its SHA-256 is not the one it states")
    try:
        check_form(facts, Manifest)
    except ValueError as error:
        raise ValueError(f"{MANIFEST}: {error}") from None
    return facts


def _digest(content: Facts) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
