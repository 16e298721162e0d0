"""What is learnt: a loss, and metrics that add up over workers."""

from thinwire.train.tasks.classification import Classification
from thinwire.train.tasks.registry import TASKS, build_task, check_task_name, register_task
from thinwire.train.tasks.regression import Regression
from thinwire.train.tasks.task import Metric, Scores, Task, reported

__all__ = [
    "TASKS",
    "Classification",
    "Metric",
    "Regression",
    "Scores",
    "Task",
    "build_task",
    "check_task_name",
    "register_task",
    "reported",
]
