"""Runs of HessianFree on MNIST in this process, and what each took to reach an error.

The steps do not depend on the number of workers, so one process tells iterations and passes for any
number.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import thinwire
from benchmarks.runner import Cell
from benchmarks.store import Results
from thinwire.data import load_mnist
from thinwire.models import build_model
from thinwire.train.prepare import normalise

TARGETS = (5, 4, 3, 2, 1)  # % training error
METHODS = ("gauss-newton", "bicgstab", "hybrid", "cg")
PERCEPTRON = {"hidden": [400]}


def cell(key: str, iterations: int, seed: int = 0, **options: Any) -> Cell:
    """Return a run of the paper's perceptron with some options of ``HessianFree``."""
    return Cell(key, {**PERCEPTRON, "iterations": iterations, **options}, measure, seed=seed)


def errors(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Return the % of samples that are not recognised."""
    with torch.no_grad():
        return 100 * float((model(inputs).argmax(1) != targets).double().mean())


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Train by one setting.

    Returns:
        "reach": for each of TARGETS the iterations and passes it took; "curve": loss, training and
        test error in % after each iteration; "passes"; "best_test".
    """
    torch.set_num_threads(1)
    options = {
        name: value for name, value in settings.items() if name not in ("hidden", "iterations")
    }
    data, _ = normalise(load_mnist(None, progress=lambda _: None), "all")
    hidden, seed = settings["hidden"], settings["seed"]
    model = build_model(784, hidden, 10, "sigmoid", seed, initialisation="torch")
    optimizer = thinwire.HessianFree(model.parameters(), **options)
    samples = data.train.inputs, data.train.targets
    objective = thinwire.Objective(model, nn.functional.cross_entropy, samples)
    reach: dict[str, list[float]] = {}
    curve = []
    for iteration in range(1, settings["iterations"] + 1):
        loss = optimizer.step(objective)
        train = errors(model, data.train.inputs, data.train.targets)
        test = errors(model, data.test.inputs, data.test.targets)
        curve.append([round(loss, 5), round(train, 3), round(test, 3)])
        for target in TARGETS:
            if train <= target:
                reach.setdefault(str(target), [iteration, round(optimizer.passes, 1)])
    best = min(test for _, _, test in curve)
    return {"reach": reach, "curve": curve, "passes": optimizer.passes, "best_test": best}


def reached(results: Results, keys: Sequence[str], target: int, what: int = 0) -> str:
    """Return the iterations (0) or passes (1) of several runs, such as "7 / 6 / -"."""
    found = [results[key].measures["reach"].get(str(target)) for key in keys]
    return " / ".join("-" if one is None else f"{one[what]:g}" for one in found)
