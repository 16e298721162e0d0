"""Loading a classification data set from the four MNIST-style IDX files."""

from pathlib import Path

import torch

from thinwire.data.idx import read_idx
from thinwire.data.source import Dataset
from thinwire.data.tensors import TensorSource

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
IDX_NAMES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


def find_idx_files(folder: Path) -> dict[str, Path]:
    """Finds the four files of an MNIST-style data set.

    Each may be plain or gzip-compressed (".gz") and spelt "train-images-idx3-ubyte" or
    "train-images.idx3-ubyte"; a plain file is preferred to a compressed one.

    Args:
        folder: where the four files lie.

    Returns:
        The path of each, by its name in `IDX_NAMES`.

    Raises:
        FileNotFoundError: the folder or any of the four is missing; the text lists which.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: folder: got no such folder, expected one holding {', '.join(IDX_NAMES)}"
        )
    found: dict[str, Path] = {}
    for name in IDX_NAMES:
        dotted = name.replace("-idx", ".idx")
        for spelling in (name, dotted, f"{name}.gz", f"{dotted}.gz"):
            if (folder / spelling).is_file():
                found[name] = folder / spelling
                break
    missing = [name for name in IDX_NAMES if name not in found]
    if missing:
        raise FileNotFoundError(
            f"{folder}: files: got {len(found)} of 4, expected also {', '.join(missing)} "
            "(plain or .gz)"
        )
    return found


def load_idx_folder(folder: Path, name: str, *, classes: int = 10) -> Dataset:
    """Loads a data set from the four IDX files in a folder.

    Args:
        folder: where the four files lie; see `find_idx_files` for the spellings.
        name: the data set's name, for reports.
        classes: number of classes; every label must be below it.

    Returns:
        The data set: inputs float32 [n, rows * columns] in [0, 1] (1 is byte 255), targets
        int64 [n].

    Raises:
        ValueError: a file is malformed, empty, or does not fit the others, or a label is out of
            range; the text names the file and the field.
        OSError: a file is missing or cannot be read.
    """
    if classes < 1:
        raise ValueError(f"classes: got {classes}, expected at least 1")
    files = find_idx_files(folder)
    train_images = read_idx(files[TRAIN_IMAGES], ndim=3)
    train_labels = read_idx(files[TRAIN_LABELS], ndim=1)
    test_images = read_idx(files[TEST_IMAGES], ndim=3)
    test_labels = read_idx(files[TEST_LABELS], ndim=1)

    if test_images.shape[1:] != train_images.shape[1:]:
        raise ValueError(
            f"{files[TEST_IMAGES]}: image size: got {_by(test_images.shape[1:])}, "
            f"expected {_by(train_images.shape[1:])} as in {files[TRAIN_IMAGES]}"
        )
    _check_images(train_images, files[TRAIN_IMAGES])
    _check_images(test_images, files[TEST_IMAGES])
    _check_labels(train_labels, files[TRAIN_LABELS], len(train_images), classes)
    _check_labels(test_labels, files[TEST_LABELS], len(test_images), classes)
    return Dataset(
        train=_to_split(train_images, train_labels),
        test=_to_split(test_images, test_labels),
        classes=classes,
        name=name,
    )


def _check_images(images: torch.Tensor, file: Path) -> None:
    """Raises ValueError for a set without images or without pixels; images [n, rows, columns]."""
    for axis, field in enumerate(("image count", "rows", "columns")):
        if images.shape[axis] == 0:
            raise ValueError(f"{file}: {field}: got 0, expected at least 1")


def _check_labels(labels: torch.Tensor, file: Path, images: int, classes: int) -> None:
    """Raises ValueError if labels, uint8 [n], do not fit `images` images of `classes` classes."""
    if len(labels) != images:
        raise ValueError(
            f"{file}: label count: got {len(labels)}, expected {images}, one per image"
        )
    item = int(labels.argmax())
    highest = int(labels[item])
    if highest >= classes:
        raise ValueError(f"{file}: labels: got {highest} at item {item}, expected below {classes}")


def _to_split(images: torch.Tensor, labels: torch.Tensor) -> TensorSource:
    """Turns images uint8 [n, rows, columns] and labels uint8 [n] into what models take."""
    return TensorSource(images.flatten(1).float().div_(255), labels.long())


def _by(sizes: torch.Size) -> str:
    """Writes sizes as "28 x 28"."""
    return " x ".join(map(str, sizes))
