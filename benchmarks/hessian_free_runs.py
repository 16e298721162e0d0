"""Runs of HessianFree on MNIST in this process, and what each took to reach an error.

Steps differ between numbers of workers by rounding alone (which Bi-CG-STAB may amplify, see
docs/hessian-free.md), so one process tells iterations and passes for any number.
Results are kept in a JSON file run by run; a run that is there already is not repeated.
"""

import json
import multiprocessing
import platform
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from typing import Any

import torch
from torch import Tensor, nn

import thinwire
from benchmarks.record import RESULTS
from thinwire.data import load_mnist
from thinwire.models import build_model
from thinwire.train.prepare import normalise

TARGETS = (5, 4, 3, 2, 1)  # % training error

Spec = Mapping[str, Any]


def errors(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """% of samples that are not recognised."""
    with torch.no_grad():
        return 100 * float((model(inputs).argmax(1) != targets).double().mean())


def run(spec: Spec) -> dict[str, Any]:
    """Train the paper's perceptron by one setting.

    Args:
        spec: "seed", "iterations", "hidden", and options of ``HessianFree``.

    Returns:
        "reach": for each of TARGETS the iterations and passes it took; "curve": training and test
        error in % after each iteration; "passes"; "best_test".
    """
    torch.set_num_threads(1)
    options = dict(spec)
    seed, iterations = options.pop("seed"), options.pop("iterations")
    data, _ = normalise(load_mnist(None, progress=lambda _: None), "all")
    model = build_model(784, options.pop("hidden"), 10, "sigmoid", seed, initialisation="torch")
    optimizer = thinwire.HessianFree(model.parameters(), seed=seed, **options)
    objective = thinwire.Objective(
        model, nn.functional.cross_entropy, (data.train.inputs, data.train.targets)
    )
    reach: dict[str, Any] = {}
    curve = []
    for iteration in range(1, iterations + 1):
        loss = optimizer.step(objective)
        train = errors(model, data.train.inputs, data.train.targets)
        test = errors(model, data.test.inputs, data.test.targets)
        curve.append([round(loss, 5), round(train, 3), round(test, 3)])
        for target in TARGETS:
            if train <= target:
                reach.setdefault(str(target), [iteration, round(optimizer.passes, 1)])
    best = min(test for _, _, test in curve)
    return {"reach": reach, "curve": curve, "passes": optimizer.passes, "best_test": best}


def run_all(name: str, specs: Mapping[str, Spec], processes: int = 2) -> dict[str, Any]:
    """Run what is missing in ``results/NAME.json`` and return all runs."""
    path = RESULTS / f"{name}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": {}}
    runs = known["runs"]
    missing = [key for key, spec in specs.items() if runs.get(key, {}).get("spec") != _plain(spec)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        futures = {key: pool.submit(run, specs[key]) for key in missing}
        for done, (key, future) in enumerate(futures.items(), start=1):
            runs[key] = {"spec": _plain(specs[key]), **future.result()}
            print(f"{done}/{len(missing)} {key}: {runs[key]['reach']}", flush=True)
            path.write_text(json.dumps({**_about(), "runs": runs}, indent=1) + "\n")
    return {key: runs[key] for key in specs}


def reached(runs: Iterable[Mapping[str, Any]], target: int, what: int = 0) -> str:
    """Iterations (0) or passes (1) of several seeds, "7 / 6 / -"."""
    found = [run["reach"].get(str(target)) for run in runs]
    return " / ".join("-" if f is None else f"{f[what]:g}" for f in found)


def _plain(spec: Spec) -> dict[str, Any]:
    return json.loads(json.dumps(dict(spec)))


def _about() -> dict[str, str]:
    return {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores",
        "torch": torch.__version__,
        "command": " ".join(sys.orig_argv[1:]),
    }
