import errno
import os
from collections.abc import Callable
from importlib import import_module
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from thinwire import files
from thinwire.files import (
    FileError,
    StrangeFileError,
    check_in_place,
    open_appending,
    open_regular,
    path_of,
    read_text,
    write_atomically,
    writing,
)


def put(kind: str, path: Path, target: Path) -> None:
    target.write_text("untouched")
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "symbolic link":
        path.symlink_to(target)
    else:
        path.mkdir()


@pytest.mark.parametrize("kind", ["FIFO", "symbolic link", "folder"])
@pytest.mark.parametrize(
    "use", [read_text, open_appending, lambda path: write_atomically(path, "new")]
)
def test_nothing_but_a_regular_file_is_read_or_replaced(kind, use, tmp_path: Path) -> None:
    path, target = tmp_path / "it", tmp_path / "target"
    put(kind, path, target)
    with pytest.raises(StrangeFileError, match=f"it: expected a regular file, got a {kind}"):
        use(path)
    assert target.read_text() == "untouched"
    assert sorted(tmp_path.iterdir()) == [path, target]


def test_a_sparse_file_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(StrangeFileError, match="expected at most"):
        read_text(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_a_byte_order_mark_is_left_out(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("seed = 1\r\n", encoding=encoding, newline="")
    assert read_text(tmp_path / "text") == "seed = 1\r\n"


def test_utf_16_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("seed = 1", encoding="utf-16")
    with pytest.raises(ValueError, match="text: expected text in UTF-8, got UTF-16"):
        read_text(tmp_path / "text")


@pytest.mark.parametrize("kind", ["FIFO", "symbolic link", "folder"])
@pytest.mark.parametrize("use", [read_text, open_appending])
def test_what_is_put_there_after_the_check_is_not_opened(
    kind: str, use: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had been a regular file when it was looked at."""
    monkeypatch.setattr(files, "check_regular", lambda path, **_: None)
    path, target = tmp_path / "it", tmp_path / "target"
    put(kind, path, target)
    with pytest.raises(OSError, match="it"):
        use(path)
    assert target.read_text() == "untouched"


def test_a_file_is_replaced_and_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_text("old")
    with path.open() as reader:
        write_atomically(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_that_could_not_be_replaced_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "it"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=f"^{path}: cannot be written: No space left on device$"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_errors_that_name_a_file_already_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(StrangeFileError, match=r"^said$"), writing(tmp_path):
        raise StrangeFileError("said")


@pytest.mark.parametrize(
    "disturb",
    [
        Path.unlink,
        lambda path: path.rename(path.with_name("elsewhere")),
        lambda path: write_atomically(path, "another"),
        lambda path: path.parent.rename(path.parent.with_name("moved")),
    ],
    ids=["removed", "renamed", "replaced", "folder moved"],
)
def test_an_open_file_that_is_no_longer_in_its_place(
    disturb: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "it"
    path.parent.mkdir()
    with open_appending(path) as file:
        check_in_place(file, path)
        disturb(path)
        with pytest.raises(FileError, match="it: has been removed, moved or replaced"):
            check_in_place(file, path)


def weights(path: Path) -> Any:
    from thinwire.models.stored import load_weights

    model = nn.Linear(2, 1)
    load_weights(model, path)
    return model.state_dict()


def stored_tensors(path: Path) -> Any:
    checkpoint = import_module("thinwire.train.checkpoint")
    return dict(checkpoint.StoredTensors(path))


def tensors(path: Path) -> None:
    made = {"weight": torch.ones(1, 2), "bias": torch.ones(1)}
    safetensors.torch.save_file(made, path)


def table(path: Path) -> None:
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pydict({"a": [1.0, 1.0]}), path)


READERS: list[tuple[str, str, Callable[[Path], Any], Callable[[Path], Any]]] = [
    ("thinwire.models.stored", "it", tensors, weights),
    ("thinwire.train.checkpoint", "it", tensors, stored_tensors),
    (
        "thinwire.train.checkpoint",
        "it",
        tensors,
        lambda path: import_module("thinwire.train.checkpoint").read_tensors(path),
    ),
    (
        "thinwire.data.arrays",
        "it.npy",
        lambda path: np.save(path, np.ones(3)),
        lambda path: {"a": import_module("thinwire.data.arrays").open_npy(path)},
    ),
    (
        "thinwire.data.arrays",
        "it.npz",
        lambda path: np.savez(path, a=np.ones(3)),
        lambda path: import_module("thinwire.data.arrays").open_npz(path, ("a",), print),
    ),
    (
        "thinwire.data.tables",
        "it",
        lambda path: path.write_text("a\n1\n1\n"),
        lambda path: import_module("thinwire.data.tables")._read_csv(path).to_pydict(),
    ),
    (
        "thinwire.data.tables",
        "it",
        table,
        lambda path: import_module("thinwire.data.tables")._parquet(path).read().to_pydict(),
    ),
]


@pytest.mark.parametrize(
    ("module", "name", "make", "read"),
    READERS,
    ids=["weights", "stored tensors", "tensors", "npy", "npz", "csv", "parquet"],
)
def test_what_is_read_is_what_was_checked(
    module: str,
    name: str,
    make: Callable[[Path], Any],
    read: Callable[[Path], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Something else takes the file's name as soon as it has been opened."""
    path = tmp_path / name

    def opened(path: Path, **options: Any) -> BufferedReader:
        file = open_regular(path, **options)
        write_atomically(path, "something else")
        return file

    monkeypatch.setattr(import_module(module), "open_regular", opened)
    make(path)
    found = read(path)
    assert path.read_text() == "something else"
    assert found
    assert all((np.asarray(values) == 1).all() for values in found.values())


def test_an_open_file_has_a_path_whatever_its_name_stands_for(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_text("old")
    with open_regular(path) as file:
        path.unlink()
        assert Path(path_of(file)).read_text() == "old"
