"""What is looked for in samples before anything is trained on them."""

import torch
from torch import Tensor

from thinwire.data.source import IDENTITY_SAMPLES, DataSource, chunks, evenly_spaced

ALL_BYTES = 1 << 30


def check_source(source: DataSource, where: str) -> None:
    """Check that samples can be trained on: some, of one shape, without NaN or infinities.

    Inputs are looked at whole where they are at most 1 GiB of float32; of more, 1,024 evenly
    spaced samples are. Targets are the task's to check.

    Raises:
        ValueError: naming where the samples are from, the sample and what is wrong.
    """
    size = len(source)
    if not size:
        raise ValueError(f"{where}: got no samples, expected at least 1")
    whole = 4 * size * max(1, torch.Size(source.shape).numel()) <= ALL_BYTES
    numbers = torch.arange(size) if whole else evenly_spaced(size, IDENTITY_SAMPLES)
    for part in numbers.split(IDENTITY_SAMPLES):
        inputs, targets = source.batch(part)
        if tuple(inputs.shape) != (len(part), *source.shape) or len(targets) != len(part):
            raise ValueError(
                f"{where}: expected inputs {[len(part), *source.shape]} and {len(part)} targets, "
                f"got {list(inputs.shape)} and {list(targets.shape)}"
            )
        _check_finite(inputs, part, f"{where}: inputs")
        _check_finite(targets, part, f"{where}: targets")


def check_alike(train: DataSource, test: DataSource, where: str) -> None:
    """Check that test samples have the training samples' shape.

    Raises:
        ValueError: naming both.
    """
    if train.shape != test.shape:
        raise ValueError(
            f"{where}: test samples: expected inputs of shape {list(train.shape)} as in training, "
            f"got {list(test.shape)}"
        )


def largest_class(source: DataSource) -> int:
    """Find the largest of all targets, which are class numbers.

    Raises:
        ValueError: a target is negative.
    """
    largest = -1
    for part in chunks(len(source)):
        targets = source.targets_of(part)
        lowest = int(targets.argmin())
        if targets.reshape(-1)[lowest] < 0:
            raise ValueError(
                f"targets: got {int(targets.reshape(-1)[lowest])} for sample {int(part[0])} or a "
                "later one, expected class numbers >= 0"
            )
        largest = max(largest, int(targets.max()))
    return largest


def _check_finite(values: Tensor, numbers: Tensor, where: str) -> None:
    if not values.is_floating_point() or bool(values.isfinite().all()):
        return
    bad = (~values.isfinite()).reshape(len(values), -1)
    row = int(bad.any(1).nonzero()[0])
    place = int(bad[row].nonzero()[0])
    value = float(values.reshape(len(values), -1)[row, place])
    raise ValueError(
        f"{where}: got {value} in sample {int(numbers[row])}, value {place}; expected finite "
        "numbers: fill such values or leave these samples out"
    )
