"""Samples that cannot be trained on are refused in one line that says where and what."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from thinwire.data import DataFields, open_dataset

X, Y = np.zeros((6, 3), np.float32), np.arange(6) % 2
OBJECTS = np.array([{}, [], 1, 2, 3, 4], dtype=object)


def with_nan(place: tuple[int, int]) -> Any:
    values = X.copy()
    values[place] = np.nan
    return values


ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "lengths": ({"inputs": X, "targets": Y[:5]}, r"targets: expected 6 rows, .* got 5"),
    "objects": (
        {"inputs": X, "targets": OBJECTS},
        r"targets(\.npy)?: got Python objects.*unpickled",
    ),
    "words": ({"inputs": X, "targets": np.array(["a"] * 6)}, r"targets(\.npy)?: got <U1, expected"),
    "no rows": ({"inputs": X[:0], "targets": Y[:0]}, r"inputs: expected \[n, ...\] with n >= 1"),
    "nan": ({"inputs": with_nan((4, 2)), "targets": Y}, "nan in sample 4, value 2"),
    "names": ({"x": X, "targets": Y}, "data.inputs: got no array 'inputs', expected one of"),
    "shapes": (
        {"inputs": X, "targets": Y, "test_inputs": X[:, :2], "test_targets": Y},
        r"test samples: expected inputs of shape \[3\] as in training, got \[2\]",
    ),
}


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("case", ARRAYS)
def test_arrays(tmp_path: Path, case: str, archive: bool) -> None:
    arrays, message = ARRAYS[case]
    path = tmp_path / "a.npz" if archive else tmp_path
    if archive:
        np.savez(path, **arrays)
    else:
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    with pytest.raises(ValueError, match=message) as caught:
        open_dataset(DataFields(path=str(path)))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_short_file(tmp_path: Path) -> None:
    np.save(tmp_path / "targets.npy", Y)
    np.save(tmp_path / "inputs.npy", X)
    whole = (tmp_path / "inputs.npy").read_bytes()
    for content in (whole[:-4], whole + b"\0", b"", whole[:40], b"not an array at all"):
        (tmp_path / "inputs.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"inputs\.npy: expected"):
            open_dataset(DataFields(path=str(tmp_path)))
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and nothing")
    with pytest.raises(ValueError, match=r"a.npz: got no archive"):
        open_dataset(DataFields(path=str(tmp_path / "a.npz")))


TABLES: dict[str, tuple[str, dict[str, Any], str]] = {
    "no target": ("a,b\n1,2\n", {}, "data.targets: expected the column to be predicted.*a, b"),
    "no column": ("a,b\n1,2\n", {"targets": ("c",)}, "data.targets: got no column 'c'.*a, b"),
    "twice": ("a,b\n1,2\n", {"targets": ("b",), "inputs": ("b",)}, "'b' is a target"),
    "words": ("a,b\nx,2\n", {"targets": ("b",)}, "column 'a': got string, expected numbers"),
    "missing": ("a,b\n1,2\n,2\n", {"targets": ("b",)}, "column 'a': 1 missing values.*row 2"),
    "inf": ("a,b\n1,2\ninf,2\n", {"targets": ("b",)}, "inf in sample 1, value 0"),
    "broken": ("a,b\n1,2,3\n", {"targets": ("b",)}, "expected a CSV file"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables(tmp_path: Path, case: str) -> None:
    pytest.importorskip("pyarrow")
    text, fields, message = TABLES[case]
    (tmp_path / "a.csv").write_text(text)
    path = str(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)) as caught:
        open_dataset(DataFields(path=path, test=path, **fields))
    assert path in str(caught.value)


def test_unknown_words_in_test_samples(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.csv").write_text("a,b\n1,x\n")
    (tmp_path / "t.csv").write_text("a,b\n1,y\n")
    one, other = str(tmp_path / "a.csv"), str(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"t\.csv: column 'b': got 'y', expected one of .* x"):
        open_dataset(DataFields(path=one, test=other, targets=("b",)))


def test_without_pyarrow_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"a.csv: .* pip install 'thinwire\[tables\]'"):
        open_dataset(DataFields(path=str(tmp_path / "a.csv"), targets=("b",)))


def number() -> int:
    return 3


def three() -> TensorDataset:
    return TensorDataset(torch.zeros(3, 2), torch.zeros(3), torch.zeros(3))


def strings() -> list[tuple[str, int]]:
    return [("a", 1), ("b", 0)]


def empty() -> list[tuple[torch.Tensor, int]]:
    return []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("number", "must return a data set with __len__ and __getitem__.* got a int"),
        ("three", r"sample 0: expected \(input, target\), got a tuple"),
        ("strings", "sample 0: expected an input and a target that are tensors"),
        ("empty", "empty: got no samples, expected at least 1"),
        ("missing", "has no function 'missing'"),
    ],
)
def test_functions(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_dataset(DataFields(path=f"{__name__}:{name}"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test_share": 1.0}, r"data.test_share: expected in \(0, 1\), got 1.0"),
        ({"classes": 0}, "data.classes: expected >= 1, got 0"),
        ({"targets": ("a", "a")}, "data.targets: expected each name once"),
        ({"format": "function", "path": "a.csv"}, "data.path: expected package.module:function"),
    ],
)
def test_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataFields(**fields)


def test_fields_a_format_does_not_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.targets: format idx does not use it"):
        open_dataset(DataFields(path=str(tmp_path), targets=("a",)))
