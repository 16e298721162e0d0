"""A classification data set in memory, and loading one from the four MNIST-style IDX files."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from thinwire.data.idx import read_idx

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
IDX_NAMES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and what a model should answer to them.

    Attributes:
        inputs: [n, features], one sample per row; float32 as loaded here.
        targets: [n, ...], one target per sample; int64 [n] class numbers as loaded here.
    """

    inputs: torch.Tensor
    targets: torch.Tensor

    def __post_init__(self) -> None:
        """Checks that every sample has a target.

        Raises:
            ValueError: inputs are not 2-d, or the counts differ.
        """
        if self.inputs.ndim != 2:
            raise ValueError(f"inputs: got shape {list(self.inputs.shape)}, expected [n, features]")
        if self.targets.ndim == 0 or self.targets.shape[0] != self.inputs.shape[0]:
            raise ValueError(
                f"targets: got shape {list(self.targets.shape)}, "
                f"expected {self.inputs.shape[0]} targets, one per input"
            )

    def __len__(self) -> int:
        return self.inputs.shape[0]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A train and a test split of the same kind of samples.

    Attributes:
        train: what is trained on.
        test: what is only measured on.
        classes: number of classes; every target is in [0, classes).
        name: for reports.
        held_out: taken from the training samples to decide by; neither trained nor tested on.
    """

    train: Split
    test: Split
    classes: int
    name: str
    held_out: Split | None = None


def hold_out(dataset: Dataset, samples: int, seed: int) -> Dataset:
    """Take some training samples away, chosen at random by the seed and nothing else.

    Args:
        dataset: all of it.
        samples: how many, 1 to one less than there are training samples.
        seed: in [0, 2**63).

    Returns:
        The data set with `held_out`; the samples of both parts keep their order.

    Raises:
        ValueError: the number is out of range.
    """
    size = len(dataset.train)
    if not 1 <= samples < size:
        raise ValueError(f"held_out: expected 1 to {size - 1} of {size} samples, got {samples}")
    digest = hashlib.blake2b(f"{seed} held out".encode(), digest_size=4).digest()
    generator = torch.Generator(device="cpu").manual_seed(int.from_bytes(digest, "little"))
    order = torch.randperm(size, generator=generator)
    held_out, train = order[:samples].sort().values, order[samples:].sort().values

    def part(chosen: torch.Tensor) -> Split:
        return Split(dataset.train.inputs[chosen], dataset.train.targets[chosen])

    return replace(dataset, train=part(train), held_out=part(held_out))


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


def _to_split(images: torch.Tensor, labels: torch.Tensor) -> Split:
    """Turns images uint8 [n, rows, columns] and labels uint8 [n] into what models take."""
    return Split(images.flatten(1).float().div_(255), labels.long())


def _by(sizes: torch.Size) -> str:
    """Writes sizes as "28 x 28"."""
    return " x ".join(map(str, sizes))
