"""``thinwire data mnist``: find or fetch MNIST and say what it is."""

from dataclasses import dataclass
from pathlib import Path

from thinwire.cli.usage import UsageError, nearest, parse, user_errors
from thinwire.data import find_mnist, load_idx_folder


@dataclass(frozen=True)
class DataFields:
    """Find a data set: in --data, $THINWIRE_DATA or the user cache, else fetch it."""

    data: Path | None = None
    """Folder with the four IDX files, plain or .gz."""


def run(args: list[str]) -> int:
    """Find the data set; returns the exit code."""
    if not args or args[0].startswith("-"):
        print("usage: thinwire data mnist [--data DIR]")
        return 0 if args in (["-h"], ["--help"]) else 2
    if args[0] != "mnist":
        raise UsageError(f"no data set {args[0]!r}{nearest(args[0], ['mnist'])}; expected mnist")
    fields = parse(DataFields(), args[1:], prog="thinwire data mnist")

    with user_errors():
        folder = find_mnist(fields.data, progress=print)
        dataset = load_idx_folder(folder, "mnist")
    print(
        f"{folder}: {len(dataset.train)} training and {len(dataset.test)} test samples, "
        f"{dataset.train.inputs.shape[1]} features, {dataset.classes} classes"
    )
    return 0
