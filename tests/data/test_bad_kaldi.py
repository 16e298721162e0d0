"""Broken and hostile Kaldi folders are refused in one line that says where, and nothing is run."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from tests.data.kaldi_folder import Folder, write_folder
from thinwire.cli import main
from thinwire.data import DataFields, inspect_kaldi, open_dataset


def place(folder: Folder, name: str) -> int:
    """Where an utterance's matrix begins in raw.ark."""
    return int(folder.line(name).rsplit(":", 1)[1])


def patch(folder: Folder, name: str, at: int, content: bytes) -> None:
    with (folder.path / "raw.ark").open("r+b") as file:
        file.seek(place(folder, name) + at)
        file.write(content)


def other_rest(rest: str) -> Callable[[Folder], None]:
    """Have the line of u2 say something else."""
    return lambda folder: folder.rewrite("feats.scp", folder.line("u2"), f"u2 {rest}")


def gigantic(folder: Folder) -> None:
    """The file is as long as the header says."""
    patch(folder, "u2", 6, struct.pack("<i", 2**31 - 1))
    os.truncate(folder.path / "raw.ark", 1 << 36)


def long(folder: Folder) -> None:
    patch(folder, "u2", 6, struct.pack("<i", 4_000_000))


def truncated(folder: Folder) -> None:
    os.truncate(folder.path / "raw.ark", place(folder, "u5") + 40)


def another_dimension(folder: Folder) -> None:
    made = {"u2": np.zeros((12, 4), np.float32)}
    kaldiio.save_ark(str(folder.path / "b.ark"), made)
    other_rest("b.ark:3")(folder)


def not_finite(folder: Folder) -> None:
    patch(folder, "u2", 15 + 4 * (2 * 5 + 1), struct.pack("<f", float("nan")))


def fifo(folder: Folder) -> None:
    os.mkfifo(folder.path / "pipe")
    other_rest("pipe:3")(folder)


def pickled(folder: Folder) -> None:
    kaldiio.save_ark(str(folder.path / "b.ark"), {"u2": {"a": 1}}, write_function="pickle")
    other_rest("b.ark:3")(folder)


def negative(folder: Folder) -> None:
    path = folder.path / "ali.ark"
    path.write_bytes(path.read_bytes().replace(b"\4\0\0\0\0", b"\4\xff\xff\xff\xff", 1))


def cut_alignment(folder: Folder) -> None:
    path = folder.path / "ali.ark"
    path.write_bytes(path.read_bytes()[:-3])


def text_alignment(content: str) -> Callable[[Folder], None]:
    def damage(folder: Folder) -> None:
        (folder.path / "ali.ark").write_text(content)

    return damage


DAMAGES: dict[str, tuple[Callable[[Folder], None], str]] = {
    "command": (other_rest("touch ran |"), "line 3: u2: got a command, which is not run; expected"),
    "command first": (other_rest("| touch ran"), "u2: got a command"),
    "columns": (other_rest("raw.ark:3[0:1,0:2]"), r"u2: expected PATH:OFFSET, or .* rows, got"),
    "no range": (other_rest("raw.ark:3[:2]"), "u2: expected PATH:OFFSET, or"),
    "past the end": (other_rest("raw.ark:3[3:7]"), r"u2: expected rows \[3:7\], both .* with 7"),
    "turned": (other_rest("raw.ark:3[5:3]"), r"u2: expected FIRST <= LAST, got \[5:3\]"),
    "nothing": (other_rest(""), "u2: expected PATH:OFFSET, or .* got ''"),
    "missing file": (other_rest("none.ark:3"), "line 3: u2: No such file or directory: none.ark"),
    "past the file": (other_rest("raw.ark:99999"), "u2: expected a binary matrix at byte 99999"),
    "text": (other_rest("feats.scp:0"), "u2: expected a binary matrix at byte 0, got b'u0 /"),
    "long name": (other_rest("x" * 5000), "u2: File name too long"),
    "device": (other_rest("/dev/zero"), "u2: /dev/zero: expected a regular file, got a device"),
    "fifo": (fifo, "u2: .*pipe: expected a regular file, got a FIFO"),
    "pickle": (pickled, "u2: expected a binary matrix at byte 3, got b'PKL"),
    "long line": (other_rest("x" * 70000), "line 3: expected less than 65536 bytes"),
    "twice": (
        lambda folder: folder.rewrite("feats.scp", "u2 ", "u1 "),
        "line 3: u1: expected every utterance once",
    ),
    "gigantic": (gigantic, "u2: expected at most 4194304 rows and .* got 2147483647 rows of 5"),
    "long": (long, "u2: the file is cut off: expected 80000000 bytes for 4000000 rows of 5"),
    "truncated": (truncated, "line 6: u5: the file is cut off: expected 100 bytes for 5 rows of 5"),
    "dimension": (another_dimension, "u2: expected frames of 5 values as above, got 4"),
    "nan": (not_finite, "line 3: u2: .* got NaN or infinity in frame 2; remove"),
    "negative": (negative, r"ali.ark: u\d: expected class numbers in \[0, 1048576\), got -1"),
    "cut alignment": (cut_alignment, "ali.ark: u5: the file is cut off: expected 5 numbers of 5"),
    "float": (text_alignment("u1 1 0.5 2\n"), "ali.ark: u1: expected whole numbers, got b'0.5'"),
    "large": (text_alignment("u1 1 9999999 2\n"), "u1: expected class numbers in .* got 9999999"),
    "larger": (text_alignment(f"u1 1 {10**30} 2\n"), "u1: expected whole numbers of 4 bytes"),
    "doubled": (text_alignment("u1 1 1 2\n" * 2), "u1: expected one alignment for each"),
    "nameless": (
        text_alignment("u1 1 1 2\n\0\1\2 3"),
        r"expected an utterance's name and a vector",
    ),
    "others": (text_alignment("x 1 1 2\n"), "feats.scp: expected at least one utterance .* 6 with"),
    "no alignments": (
        lambda folder: (folder.path / "ali.ark").unlink(),
        "expected alignments in ali.scp or",
    ),
    "one word": (
        lambda folder: folder.rewrite("utt2spk", "u2 s2", "u2"),
        "utt2spk: line 3: u2: expected an utterance and its speaker",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_folder(tmp_path / "data")
    damage, message = DAMAGES[case]
    damage(folder)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        open_dataset(DataFields(path=str(folder.path), test=str(folder.path)))
    assert "\n" not in str(caught.value)
    assert str(folder.path) in str(caught.value)
    assert not list(tmp_path.glob("**/ran"))


def test_inspect_tells_all_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path)
    assert main(["data", "inspect", str(tmp_path)]) == 0
    sound = capsys.readouterr().out
    assert "6 utterances of 3 speakers, 37 frames of 5 values" in sound
    assert "utterances have 1 to 12 frames" in sound
    assert "4 classes, 0 of them without frames" in sound
    folder.rewrite("feats.scp", folder.line("u0"), "u0 rm -rf / |")
    not_finite(folder)
    truncated(folder)
    assert main(["data", "inspect", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    for part in ("u0: got a command", "u2: expected finite", "u5: the file is cut off", "3 errors"):
        assert part in said
    with pytest.raises(FileNotFoundError):
        inspect_kaldi(tmp_path / "none")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": ("a",)}, "data.inputs: format kaldi does not use it"),
        ({"splice": -1}, "data.splice: expected 0 to 100, got -1"),
        ({"memory_mb": 0}, "data.memory_mb: expected 1 to"),
        ({"test": "list", "test_share": 0.2}, "data.test_share: expected none where"),
        ({"test": "strange"}, "strange: line 1: x: expected an utterance or a speaker of"),
        ({"test": "all"}, "all: expected some utterances to test on and others to train on"),
    ],
)
def test_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "data")
    for name, content in {"list": "s1\n", "strange": "x\n", "all": "s0\ns1\ns2\n"}.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        open_dataset(DataFields(path="data", **fields))  # type: ignore[arg-type]


def test_other_formats_have_no_splicing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format npz does not use it"):
        open_dataset(DataFields(path=str(tmp_path / "a.npz"), splice=2))
