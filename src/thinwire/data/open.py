"""From a recipe's [data] section to a data set, whatever the format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thinwire.data.arrays import (
    Array,
    ArraySource,
    check_rows,
    npz_names,
    open_npy_folder,
    open_npz,
)
from thinwire.data.check import check_alike, check_source
from thinwire.data.fields import DataFields, Format
from thinwire.data.functions import from_function
from thinwire.data.kaldi import FEATURES, open_kaldi
from thinwire.data.mnist import load_mnist
from thinwire.data.source import (
    Dataset,
    DataSource,
    View,
    lies_in_runs,
    split_off,
    split_runs,
)
from thinwire.data.tables import ParquetSource, open_csv, read_columns
from thinwire.named_function import is_function_name

Note = Callable[[str], None]

_SPEECH = "thinwire data synth FOLDER --hours 1 makes speech, and --data FOLDER/train names it"
_ENDINGS: dict[str, Format] = {
    ".npz": "npz",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
}


@dataclass(frozen=True)
class _Opened:
    """What a format gives; the rest is the same for all.

    Attributes:
        train: training samples.
        test: test samples, where there are any.
        classes: number of classes where the format says it.
        labels: what class numbers stand for.
    """

    train: DataSource
    test: DataSource | None = None
    classes: int | None = None
    labels: tuple[str, ...] = ()


def open_dataset(fields: DataFields, note: Note = lambda _: None) -> Dataset:
    """Open the data set that fields describe, and look whether it can be trained on.

    Args:
        fields: a recipe's [data] section.
        note: told, in one line each, of downloads and of what is read into memory.

    Raises:
        ValueError: naming the file and the field, for what does not fit.
        OSError: a file is missing or cannot be read.
        RuntimeError: MNIST is neither here nor to be had.
    """
    kind = format_of(fields)
    if kind != "kaldi":
        _refuse(fields, kind, "splice", "cmvn", "memory_mb")
    if kind == "idx":
        _refuse(fields, kind, "inputs", "targets", "test", "test_share")
        path = None if fields.path is None else Path(fields.path)
        return load_mnist(path, classes=fields.classes or 10, progress=note)
    opened = _OPEN[kind](fields, note)
    where = str(fields.path)
    check_source(opened.train, where)
    test = opened.test
    if test is not None:
        if fields.test_share != DataFields.test_share:
            raise ValueError(
                f"data.test_share: expected none where there are test samples, "
                f"got {fields.test_share}"
            )
        check_source(test, f"{where}: test samples" if fields.test is None else fields.test)
        check_alike(opened.train, test, where)
    train, test = (opened.train, test) if test is not None else _split(opened.train, fields, where)
    classes = fields.classes or opened.classes
    return Dataset(train, test, classes, _name(fields), labels=opened.labels)


def format_of(fields: DataFields) -> Format:
    """Return the format the fields say, or what the path looks like.

    Raises:
        ValueError: a format that needs a path has none.
    """
    if fields.path is None and fields.format not in ("auto", "idx"):
        made = f"; {_SPEECH}" if fields.format == "kaldi" else ""
        raise ValueError(
            f"data.path: expected a path where data.format is {fields.format}, got none{made}"
        )
    if fields.format != "auto" or fields.path is None:
        return "idx" if fields.path is None else fields.format
    path = Path(fields.path)
    ending = _ENDINGS.get(path.suffix.lower())
    if ending is not None:
        return ending
    if is_function_name(fields.path):
        return "function"
    if (path / FEATURES).exists():
        return "kaldi"
    return "npy" if path.suffix == ".npy" or any(path.glob("*.npy")) else "idx"


def _name(fields: DataFields) -> str:
    if is_function_name(fields.path or ""):
        return str(fields.path)
    path = Path(fields.path or "").resolve()
    return path.name if path.is_dir() else path.stem


def _split(source: DataSource, fields: DataFields, where: str) -> tuple[DataSource, DataSource]:
    """Take a share of the samples for testing, the same ones in every run."""
    size = len(source)
    count = max(1, round(fields.test_share * size))
    if count >= size:
        raise ValueError(
            f"{where}: data.test_share: expected less than all of {size} samples, "
            f"got {fields.test_share}"
        )
    if lies_in_runs(source):
        if len(source.groups.unique()) < 2:
            raise ValueError(
                f"{where}: data.test: expected test samples, as there is only one speaker to take "
                "them from, got none"
            )
        return split_runs(source, source.groups, count, "test samples")
    train, test = split_off(size, count, "test samples")
    return View(source, train), View(source, test)


def _open_function(fields: DataFields, note: Note) -> _Opened:
    _refuse(fields, "function", "inputs", "targets", "test")
    return _Opened(*from_function(fields.path or ""))


def _open_kaldi(fields: DataFields, note: Note) -> _Opened:
    _refuse(fields, "kaldi", "inputs", "targets")
    return _Opened(*open_kaldi(fields, note))


def _open_table(fields: DataFields, note: Note) -> _Opened:
    path, kind = Path(fields.path or ""), format_of(fields)
    columns = read_columns(path, kind, fields.inputs, fields.targets)
    opened = open_csv if kind == "csv" else ParquetSource
    test = None if fields.test is None else opened(Path(fields.test), columns)
    return _Opened(opened(path, columns), test, len(columns.labels) or None, columns.labels)


def _open_arrays(fields: DataFields, note: Note) -> _Opened:
    path, kind = Path(fields.path or ""), format_of(fields)
    if path.suffix == ".npy":
        raise ValueError(
            f"{path}: got one array, expected a folder with two: inputs.npy and targets.npy"
        )
    inputs, targets = _one_name(fields, "inputs"), _one_name(fields, "targets")
    both = (_test_name(inputs), _test_name(targets))
    names = npz_names(path) if kind == "npz" else [p.stem for p in sorted(path.glob("*.npy"))]

    def pair(place: Path, chosen: tuple[str, str]) -> ArraySource:
        arrays = _arrays(place, kind, chosen, note)
        check_rows(arrays, *chosen, place)
        return ArraySource(arrays[chosen[0]], arrays[chosen[1]])

    train = pair(path, (inputs, targets))
    if fields.test is not None:
        return _Opened(train, pair(Path(fields.test), (inputs, targets)))
    return _Opened(train, pair(path, both) if set(both) <= set(names) else None)


def _arrays(path: Path, kind: Format, names: tuple[str, str], note: Note) -> dict[str, Array]:
    found = open_npz(path, names, note) if kind == "npz" else open_npy_folder(path)
    for field, name in zip(("inputs", "targets"), names, strict=True):
        if name not in found:
            there = npz_names(path) if kind == "npz" else list(found)
            raise ValueError(
                f"{path}: data.{field}: got no array {name!r}, expected one of "
                f"{', '.join(there) or 'at least one'}"
            )
    return found


def _one_name(fields: DataFields, field: str) -> str:
    given: tuple[str, ...] | None = getattr(fields, field)
    if given is not None and len(given) != 1:
        raise ValueError(f"data.{field}: expected the name of one array, got {list(given)}")
    return field if given is None else given[0]


def _test_name(name: str) -> str:
    """The array with the test samples that goes with one of training samples.

    >>> _test_name("x_train"), _test_name("inputs")
    ('x_test', 'test_inputs')
    """
    return name.replace("train", "test") if "train" in name else f"test_{name}"


def _refuse(fields: DataFields, kind: Format, *names: str) -> None:
    """A field that would have no effect must not be set."""
    for name in names:
        value = getattr(fields, name)
        if value != getattr(DataFields, name):
            raise ValueError(f"data.{name}: format {kind} does not use it, got {value}")


_OPEN: dict[Format, Callable[[DataFields, Note], _Opened]] = {
    "npz": _open_arrays,
    "npy": _open_arrays,
    "parquet": _open_table,
    "csv": _open_table,
    "kaldi": _open_kaldi,
    "function": _open_function,
}
