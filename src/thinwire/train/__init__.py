"""The trainer: recipe -> model, data, optimiser -> the loop -> a run folder."""

from thinwire.train.environment import Workers, detect_workers, worker_processes
from thinwire.train.loop import train
from thinwire.train.model import build_model
from thinwire.train.prepare import Job, prepare
from thinwire.train.recipe import Recipe, find_recipe, recipe_names

__all__ = [
    "Job",
    "Recipe",
    "Workers",
    "build_model",
    "detect_workers",
    "find_recipe",
    "prepare",
    "recipe_names",
    "train",
    "worker_processes",
]
