"""``thinwire data PATH``: say what a source of samples holds; ``mnist`` is found or fetched."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from thinwire.cli import fillets, synth
from thinwire.cli.usage import UsageError, nearest, parse, user_errors
from thinwire.data import DataFields, Dataset, DataSource, inspect_kaldi, open_dataset

USAGE = """usage: thinwire data mnist [--data DIR]
       thinwire data fillets OUT [--from PATH] [--states N]
       thinwire data inspect DIR
       thinwire data synth OUT --hours H [--test-hours H] [--text FILE] [--FIELD VALUE ...]
       thinwire data PATH [--targets NAME ...] [--inputs NAME ...] [--FIELD VALUE ...]

PATH is a folder or file, or package.module:function; its fields are those of a recipe's [data].
DIR is a folder of Kaldi features; all of it is read, and what is wrong with it is told.
OUT is a folder to make: of Czech human speech, or of synthetic speech with exact labels;
`thinwire data fillets --help` and `thinwire data synth --help` say more."""
SHOWN = 8  # targets


def run(args: list[str]) -> int:
    """Open a data set and describe it; returns the exit code."""
    if not args or args[0].startswith("-"):
        print(USAGE)
        return 0 if args in (["-h"], ["--help"]) else 2
    if args[0] in _OF_ITS_OWN:
        return _OF_ITS_OWN[args[0]](args[1:])
    name, flags = args[0], ["--path" if flag == "--data" else flag for flag in args[1:]]
    fields = parse(DataFields(), flags, prog=f"thinwire data {name}")
    if name != "mnist":
        if not (Path(name).exists() or any(mark in name for mark in "/.:")):
            hint = nearest(name, ["mnist", *_OF_ITS_OWN])
            raise UsageError(f"no data set {name!r}{hint}; expected mnist, a path or a function")
        fields = replace(fields, path=name)
    with user_errors():
        dataset = open_dataset(fields, print)
        for line in describe(dataset):
            print(line)
    return 0


def _inspect(args: list[str]) -> int:
    """Read a whole Kaldi folder; returns 1 if something is wrong with it."""
    if len(args) != 1 or not Path(args[0]).is_dir():
        raise UsageError(f"thinwire data inspect: expected one folder, got {' '.join(args)!r}")
    with user_errors():
        lines, wrong = inspect_kaldi(Path(args[0]))
    print("\n".join(lines))
    return 1 if wrong else 0


def describe(dataset: Dataset) -> list[str]:
    """What a data set holds, a line each for training and test samples, and for the classes."""
    lines = [
        f"{dataset.name}: {len(dataset.train)} training and {len(dataset.test)} test samples, "
        f"{_features(dataset.train.shape)}"
        + ("" if dataset.classes is None else f", {dataset.classes} classes"),
        f"first targets: {_first_targets(dataset.train)}",
        f"identity: {dataset.train.identity}",
    ]
    if dataset.labels:
        lines.insert(1, f"classes: {', '.join(dataset.labels)}")
    return lines


def _features(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} features" if len(shape) == 1 else f"inputs of shape {list(shape)}"


def _first_targets(source: DataSource) -> str:
    targets = source.targets_of(torch.arange(min(SHOWN, len(source))))
    return ", ".join(str(target) for target in targets.tolist())


_OF_ITS_OWN: dict[str, Callable[[list[str]], int]] = {
    "fillets": fillets.run,
    "inspect": _inspect,
    "synth": synth.run,
}
