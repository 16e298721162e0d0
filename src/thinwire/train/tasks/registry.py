"""Tasks by the name a recipe gives them: those here, and a user's own."""

import difflib
from collections.abc import Callable

from thinwire.data import Dataset
from thinwire.named_function import find_function, is_function_name
from thinwire.train.tasks.classification import classification
from thinwire.train.tasks.regression import regression
from thinwire.train.tasks.task import Task

MakeTask = Callable[[Dataset], tuple[Task, Dataset]]
"""Data set -> its task, and the data set with what the task has found out about it."""

TASKS: dict[str, MakeTask] = {"classification": classification, "regression": regression}


def register_task(name: str, make: MakeTask) -> None:
    """Let recipes name a task.

    Args:
        name: as recipes give it.
        make: called with the data set before training.

    Raises:
        ValueError: there is a task of this name.
    """
    if name in TASKS:
        raise ValueError(f"name: expected one that no task has, got {name!r}")
    TASKS[name] = make


def check_task_name(name: str) -> None:
    """Raise ValueError, with the nearest name, unless there may be such a task."""
    if name in TASKS or is_function_name(name):
        return
    close = difflib.get_close_matches(name, TASKS, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"task: expected one of {', '.join(TASKS)}, or package.module:function; got {name!r}{hint}"
    )


def build_task(name: str, dataset: Dataset) -> tuple[Task, Dataset]:
    """Make a recipe's task.

    Args:
        name: of `TASKS`, or "package.module:function" of a `MakeTask`.
        dataset: as opened; targets not converted.

    Returns:
        The task, and the data set with what the task has found out about it.

    Raises:
        ValueError: there is no such task, or the targets do not fit it.
    """
    make: MakeTask = TASKS[name] if name in TASKS else find_function(name)
    return make(dataset)
