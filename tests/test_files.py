import os
from pathlib import Path

import pytest

from thinwire.files import StrangeFileError, open_appending, read_text, write_atomically


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
