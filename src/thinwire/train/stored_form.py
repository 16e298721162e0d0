"""Whether what a checkpoint holds is of the form that its run's model and optimiser need.

Only headers of tensors are read here, before anything is trained or changed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from thinwire.exchange import with_counts
from thinwire.exchange.former import without_bits
from thinwire.exchange.reshard import check_states
from thinwire.exchange.state import IN_ROUND, PER_WORKER, REPLICATED
from thinwire.optim.group_codes import code_name
from thinwire.train.build import group_options
from thinwire.train.checkpoint import (
    MANIFEST,
    MODEL,
    Checkpoint,
    Facts,
    StoredTensors,
    worker_file,
)
from thinwire.train.manifest import HessianFreeFacts, SgdFacts, check_form
from thinwire.train.prepare import Job
from thinwire.train.pretraining import first_depth, full_depth, stage_model, stage_seed
from thinwire.train.recipe import Recipe
from thinwire.train.stored import INNER, stored_files

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_FLOATS = ("F64", "F32", "F16", "BF16")
_TOTALS = ("since_event", "since_epoch")
_OWN = "optimizer/"
_WHOLE = (*PER_WORKER, *IN_ROUND, *REPLICATED)  # kinds of which a worker stores whole parameters


def check_state(checkpoint: Checkpoint, job: Job) -> None:
    """Refuse a checkpoint whose options or tensors are not of this job's form.

    Raises:
        ValueError: naming the file, the field or tensor, what was found and what was expected.
    """
    run, sgd = checkpoint.facts["run"], job.recipe.algorithm == "sgd"
    ways = run.get("model_parallel", 1)
    with _naming(MANIFEST):
        depth = _depth(run, job.recipe) if sgd else full_depth(job.recipe)
        if sgd:
            _check_schedules(run, job, depth)
        _check_last_epoch(run["last_epoch"], job)
        if checkpoint.world % ways:
            raise ValueError(f"run.model_parallel: expected a divisor of world, got {ways}")
        model = stage_model(job, depth)
        names = [name for name, _ in model.named_parameters()]
        _check_names(run["param_groups"], names)
    _check_model(StoredTensors(checkpoint.folder / MODEL), model.state_dict())
    files = stored_files(checkpoint)
    for rank, file in enumerate(files):
        with _naming(worker_file(rank)):
            check_form(file.facts, SgdFacts if sgd else HessianFreeFacts)
            _check_place(file.facts["optimizer"], rank, checkpoint.world, ways)
            if sgd:
                _check_totals(file, 1 + job.task.sums + 1)
                _check_counts(file.facts["optimizer"], len(names), job.recipe)
            if ways == 1:
                _check_tensors(file, model)
    check_states([with_counts({}, file.facts["optimizer"]) for file in files])
    if ways == 1:
        _check_complete(files, model, sgd)


def _depth(run: Mapping[str, Any], recipe: Recipe) -> int:
    """Hidden layers of the stage in which the checkpoint was written."""
    first, full = first_depth(recipe), full_depth(recipe)
    depth: int = run.get("depth", full)
    if not first <= depth <= full:
        raise ValueError(f"run.depth: expected {first} to {full}, got {depth}")
    return depth


@contextmanager
def _naming(file: str) -> Iterator[None]:
    """Errors begin with the name of the file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _check_last_epoch(last: Mapping[str, object], job: Job) -> None:
    """What a run that is complete already puts into its summary."""
    if not last:
        return
    for name in ("test_loss", *(f"test_{metric.name}" for metric in job.task.metrics)):
        if name not in last or isinstance(last[name], str | bool):
            raise ValueError(f"run.last_epoch.{name}: expected a number")
    if not isinstance(last.get("params_sha256"), str):
        raise ValueError("run.last_epoch.params_sha256: expected text")
    if not isinstance(last.get("replicas_identical"), bool):
        raise ValueError("run.last_epoch.replicas_identical: expected true or false")


def _check_schedules(run: Facts, job: Job, depth: int) -> None:
    """What the recipe fixes is as the recipe has it; what schedules change is in their reach."""
    recipe, rate, size = job.recipe, job.recipe.optimizer.lr, len(job.dataset.train)
    _check_fixed(run, "sampler", {"seed": stage_seed(recipe, depth), "size": size})
    if not recipe.selection.every:
        _check_fixed(run, "sampler", {"minibatch": recipe.minibatch})
    if run["sampler"]["position"] >= size:
        raise ValueError(
            f"run.sampler.position: expected < {size}, got {run['sampler']['position']}"
        )
    decay = recipe.optimizer.lr_decay
    _check_fixed(run, "scheduler", {"gamma": decay, "base_lrs": [rate]})
    if len(run["param_groups"]) != 1:
        raise ValueError(f"run.param_groups: expected one, got {len(run['param_groups'])}")
    group, options = without_bits(run["param_groups"][0]), group_options(recipe)
    options |= {"code": code_name(options["code"])}
    lr, name = run.get("inner_lr"), "inner_lr"
    if not recipe.local.every:
        options |= {"initial_lr": rate}
        lr, name = group.get("lr"), "param_groups.lr"
    _check_fixed({"param_groups": group}, "param_groups", options)
    if lr is None or lr > rate:
        raise ValueError(f"run.{name}: expected a number of at most {rate}, got {lr}")


def _check_fixed(run: Facts, part: str, expected: Facts) -> None:
    """Values that never change while the recipe is trained."""
    found = run.get(part)
    if found is None:
        raise ValueError(f"run.{part}: expected an object, got none")
    for name, value in expected.items():
        stored = found.get(name)
        # JSON has no tuples.
        if stored != (list(value) if isinstance(value, tuple) else value):
            raise ValueError(
                f"run.{part}.{name}: expected {value}, as the recipe has it, got {stored}"
            )


def _check_names(groups: Sequence[Facts], names: list[str]) -> None:
    """The groups name the model's parameters in order."""
    found = [name for group in groups for name in group["param_names"]]
    numbers = [number for group in groups for number in group["params"]]
    if found != names or numbers != list(range(len(names))):
        raise ValueError("run.param_groups: expected the model's parameters, each once, in order")


def _check_model(file: StoredTensors, own: Mapping[str, torch.Tensor]) -> None:
    for name in sorted(own.keys() | set(file)):
        expected = None
        if name in own:
            expected = (_DTYPES.get(own[name].dtype, "?"), list(own[name].shape))
        found = file.form(name) if name in file else None
        if found != expected:
            raise ValueError(f"{MODEL}: {name}: expected {_said(expected)}, got {_said(found)}")


def _check_place(counts: Mapping[str, Any], rank: int, world: int, ways: int) -> None:
    """A worker's state is its own: of its place in the grid of workers and model ranks."""
    expected = {
        "rank": (counts["rank"], rank // ways),
        "world": (counts["world"], world // ways),
        "model_rank": (counts.get("model_rank", 0), rank % ways),
        "model_world": (counts.get("model_world", 1), ways),
    }
    for name, (found, own) in expected.items():
        if found != own:
            raise ValueError(f"optimizer.{name}: expected {own}, got {found}")


def _check_totals(file: StoredTensors, totals: int) -> None:
    for name in _TOTALS:
        found = file.form(name) if name in file else None
        if found != ("F64", [totals]):
            raise ValueError(f"{name}: expected {_said(('F64', [totals]))}, got {_said(found)}")


def _check_counts(counts: Mapping[str, Any], parameters: int, recipe: Recipe) -> None:
    """What is stored by position has an entry for every parameter."""
    by_position = ("sequences", "kept", "scalars", *(("sharded",) if "sharded" in counts else ()))
    for name in by_position:
        if len(counts[name]) != parameters:
            raise ValueError(
                f"optimizer.{name}: expected {parameters} entries, got {len(counts[name])}"
            )
    if recipe.local.every:
        for name in ("steps_in_round", "moved_samples"):
            if name not in counts:
                raise ValueError(f"optimizer.{name}: expected a number, got none")
    if counts["axis"] != recipe.exchange.axis:
        raise ValueError(f"optimizer.axis: expected {recipe.exchange.axis}, got {counts['axis']}")


def _check_tensors(file: StoredTensors, model: nn.Module) -> None:
    """Every tensor is the whole parameter's, or of the run its owner has."""
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    owned = file.facts["owned"]
    for name, (start, stop) in owned.items():
        values = math.prod(shapes.get(name, [0]))
        if name not in shapes or not start <= stop <= values:
            raise ValueError(f"owned.{name}: expected a run in 0..{values}, got {start}..{stop}")
    for name in file:
        if not name.startswith((_OWN, INNER)):
            continue
        parameter, _, kind = name.partition("/")[2].rpartition(".")
        if parameter not in shapes:
            raise ValueError(f"{name}: the model has no parameter {parameter!r}")
        dtype, shape = file.form(name)
        expected = shapes[parameter]
        if name.startswith(_OWN) and parameter in owned and kind not in _WHOLE:
            expected = [owned[parameter][1] - owned[parameter][0]]
        if dtype not in _FLOATS or (shape != expected and kind != "fisher"):
            raise ValueError(
                f"{name}: expected a floating-point tensor of shape {expected}, "
                f"got {_said((dtype, shape))}"
            )


def _check_complete(files: Sequence[StoredTensors], model: nn.Module, sgd: bool) -> None:
    """Every parameter has all that going on takes, and its owners' runs cover it."""
    parameters = dict(model.named_parameters())
    for kind in () if sgd else ("step", "gradient"):
        with _naming(worker_file(0)):
            _check_all_or_none(files[0], kind, list(parameters))
    for number, (name, parameter) in enumerate(parameters.items() if sgd else ()):
        if not parameter.requires_grad and f"optimizer/{name}.residual" not in files[0]:
            continue  # frozen when it was stored, and now
        for rank, file in enumerate(files):
            with _naming(worker_file(rank)):
                for kind in _needed(file.facts, name, number, rank):
                    if f"optimizer/{name}.{kind}" not in file:
                        raise ValueError(f"optimizer/{name}.{kind}: expected a tensor, got none")
        _check_covered([file.facts["owned"].get(name) for file in files], name, parameter.numel())


def _check_all_or_none(file: StoredTensors, kind: str, names: Sequence[str]) -> None:
    missing = [name for name in names if f"optimizer/{name}.{kind}" not in file]
    if 0 < len(missing) < len(names):
        raise ValueError(f"optimizer/{missing[0]}.{kind}: expected a tensor, got none")


def _needed(facts: Mapping[str, Any], name: str, number: int, rank: int) -> Iterator[str]:
    """The kinds of tensors that one worker must have stored of a parameter."""
    counts = facts["optimizer"]
    yield "residual"
    pending = counts.get("pending") is not None
    if pending and rank == 0:
        yield "pending"
    if "steps_in_round" in counts:
        yield from ("local", *(("sent",) if pending else ()), *(("anchor",) if rank == 0 else ()))
    if name in facts["owned"]:
        yield from () if counts["phase"] == "serial" else ("owner_residual",)
        yield from counts["kept"][number] or ()


def _check_covered(runs: Sequence[Any], name: str, values: int) -> None:
    covered = 0
    for start, stop in sorted(run for run in runs if run is not None):
        if start <= covered:
            covered = max(covered, stop)
    if covered < values:
        raise ValueError(f"owned.{name}: expected owners of {values} values, got {covered}")


def _said(form: tuple[str, Sequence[int]] | None) -> str:
    return "none" if form is None else f"{form[0]} of shape {list(form[1])}"
