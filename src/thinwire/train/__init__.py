"""The trainer: recipe -> model, data, optimiser -> the loop -> a run folder."""

from thinwire.train.display import Display
from thinwire.train.environment import Workers, detect_workers, worker_processes
from thinwire.train.failure import naming_lost_workers
from thinwire.train.grid import check_grid
from thinwire.train.loop import train
from thinwire.train.prepare import Job, prepare
from thinwire.train.recipe import Recipe, foreign_fields
from thinwire.train.recipe_files import find_recipe, recipe_names
from thinwire.train.resume import Plan, make_plan
from thinwire.train.stop import StopSignals

__all__ = [
    "Display",
    "Job",
    "Plan",
    "Recipe",
    "StopSignals",
    "Workers",
    "check_grid",
    "detect_workers",
    "find_recipe",
    "foreign_fields",
    "make_plan",
    "naming_lost_workers",
    "prepare",
    "recipe_names",
    "train",
    "worker_processes",
]
