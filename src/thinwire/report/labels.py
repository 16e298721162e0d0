"""Labels which tell the runs of one report apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from thinwire.report.run import Run, load_run
from thinwire.report.text import clean_text


def load_runs(folders: Iterable[Path]) -> list[Run]:
    """Read several run folders and give each run a label of its own.

    Raises:
        FileNotFoundError: As `load_run`.
        ValueError: As `load_run`.
    """
    return with_unique_labels([load_run(folder) for folder in folders])


def with_unique_labels(runs: Sequence[Run]) -> list[Run]:
    """Tell apart runs of equal label: first by folder name, then by path, then by number.

    Returns:
        The runs in the same order; labels which were unique stay as they were.
    """
    labels = [run.label for run in runs]
    for suffix in ([run.folder.name for run in runs], [str(run.folder) for run in runs]):
        count = Counter(labels)
        labels = [
            f"{run.label} ({clean_text(more)})" if count[label] > 1 else label
            for run, label, more in zip(runs, labels, suffix, strict=True)
        ]
    taken: set[str] = set()
    unique = []
    for run, label in zip(runs, labels, strict=True):
        candidate, copy = label, 1
        while candidate in taken:
            copy += 1
            candidate = f"{label} #{copy}"
        taken.add(candidate)
        unique.append(replace(run, label=candidate))
    return unique
