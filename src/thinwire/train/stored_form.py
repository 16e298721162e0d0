"""Whether what a checkpoint holds is of the form that its run's model and optimiser need.

Only headers of tensors are read here, before anything is trained or changed.
"""

import math
from collections.abc import Mapping, Sequence

import torch

from thinwire.exchange.former import without_bits
from thinwire.exchange.state import PER_WORKER, REPLICATED
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
from thinwire.train.pretraining import full_depth, stage_seed

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

Shapes = Mapping[str, Sequence[int]]


def check_state(checkpoint: Checkpoint, job: Job) -> None:
    """Refuse a checkpoint whose options or tensors are not of this job's form.

    Raises:
        ValueError: naming the file, the field or tensor, what was found and what was expected.
    """
    run, recipe = checkpoint.facts["run"], job.recipe
    sgd, full = recipe.algorithm == "sgd", full_depth(recipe)
    ways, depth = run.get("model_parallel", 1), run.get("depth", full) if sgd else full
    try:
        if depth != full and not 1 <= depth <= full:
            raise ValueError(f"run.depth: expected at most {full}, got {depth}")
        if sgd:
            _check_schedules(run, job, depth)
        if checkpoint.world % ways:
            raise ValueError(f"run.model_parallel: expected a divisor of world, got {ways}")
        _check_last_epoch(run["last_epoch"], job)
        if depth == full:
            _check_names(run["param_groups"], [name for name, _ in job.model.named_parameters()])
    except ValueError as error:
        raise ValueError(f"{MANIFEST}: {error}") from None
    shapes: Shapes | None = None
    if depth == full:
        own = job.model.state_dict()
        shapes = {name: list(tensor.shape) for name, tensor in own.items()}
        _check_model(StoredTensors(checkpoint.folder / MODEL), own)
    for rank in range(checkpoint.world):
        file = StoredTensors(checkpoint.folder / worker_file(rank))
        _check_worker(
            file,
            worker_file(rank),
            shapes if ways == 1 else None,
            (1 + job.task.sums + 1) if sgd else None,
        )
        axis = file.facts["optimizer"].get("axis")
        if sgd and axis != job.recipe.exchange.axis:
            raise ValueError(
                f"{worker_file(rank)}: optimizer.axis: expected {job.recipe.exchange.axis}, "
                f"got {axis}"
            )


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
    options |= {"initial_lr": rate, "code": code_name(options["code"])}
    _check_fixed({"param_groups": group}, "param_groups", options)
    if "lr" not in group or group["lr"] > rate:
        raise ValueError(
            f"run.param_groups.lr: expected a number of at most {rate}, got {group.get('lr')}"
        )


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
    """The groups name the model's parameters."""
    found = [name for group in groups for name in group["param_names"]]
    numbers = [number for group in groups for number in group["params"]]
    if sorted(found) != sorted(names) or sorted(numbers) != list(range(len(names))):
        raise ValueError("run.param_groups: expected the model's parameters, each once")


def _check_model(file: StoredTensors, own: Mapping[str, torch.Tensor]) -> None:
    for name in sorted(own.keys() | set(file)):
        expected = None
        if name in own:
            expected = (_DTYPES.get(own[name].dtype, "?"), list(own[name].shape))
        found = file.form(name) if name in file else None
        if found != expected:
            raise ValueError(f"{MODEL}: {name}: expected {_said(expected)}, got {_said(found)}")


def _check_worker(
    file: StoredTensors, where: str, shapes: Shapes | None, totals: int | None
) -> None:
    try:
        check_form(file.facts, HessianFreeFacts if totals is None else SgdFacts)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if totals is not None:
        for name in _TOTALS:
            found = file.form(name) if name in file else None
            if found != ("F64", [totals]):
                raise ValueError(
                    f"{where}: {name}: expected {_said(('F64', [totals]))}, got {_said(found)}"
                )
    for name in file if shapes is not None else ():
        if name.startswith("optimizer/"):
            _check_entry(file, name, where, shapes or {})


def _check_entry(file: StoredTensors, name: str, where: str, shapes: Shapes) -> None:
    """One tensor of an optimiser's state: the whole parameter's, or of the run its owner has."""
    parameter, _, kind = name.removeprefix("optimizer/").rpartition(".")
    if parameter not in shapes:
        raise ValueError(f"{where}: {name}: the model has no parameter {parameter!r}")
    dtype, shape = file.form(name)
    whole, owned = list(shapes[parameter]), file.facts["owned"].get(parameter)
    if owned is not None and not 0 <= owned[0] <= owned[1] <= math.prod(whole):
        raise ValueError(
            f"{where}: owned.{parameter}: expected a run in 0..{math.prod(whole)}, got {owned}"
        )
    expected = whole
    if owned is not None and kind not in (*PER_WORKER, *REPLICATED):
        expected = [owned[1] - owned[0]]
    if dtype not in _FLOATS or (shape != expected and kind != "fisher"):
        raise ValueError(
            f"{where}: {name}: expected a floating-point tensor of shape {expected}, "
            f"got {_said((dtype, shape))}"
        )


def _said(form: tuple[str, Sequence[int]] | None) -> str:
    return "none" if form is None else f"{form[0]} of shape {list(form[1])}"
