"""Whether what a checkpoint holds is of the form that its run's model and optimiser need.

Only headers of tensors are read here, before anything is trained or changed.
"""

import math
from collections.abc import Mapping, Sequence

import torch

from thinwire.exchange.state import PER_WORKER, REPLICATED
from thinwire.train.checkpoint import MODEL, Checkpoint, StoredTensors, worker_file
from thinwire.train.manifest import HessianFreeFacts, SgdFacts, check_form
from thinwire.train.prepare import Job
from thinwire.train.pretraining import full_depth
from thinwire.train.recipe import Recipe

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
    run = checkpoint.facts["run"]
    sgd = job.recipe.algorithm == "sgd"
    if sgd:
        for name in ("sampler", "scheduler"):
            if run.get(name) is None:
                raise ValueError(f"run.{name}: expected an object, got none")
    _check_last_epoch(run["last_epoch"], job)
    ways = run.get("model_parallel", 1)
    if checkpoint.world % ways:
        raise ValueError(f"run.model_parallel: expected a divisor of world, got {ways}")
    _check_sampler(run, job, sgd)
    full = full_depth(job.recipe)
    depth = run.get("depth", full) if sgd else full
    if not 1 <= depth <= max(full, 1) and depth != full:
        raise ValueError(f"run.depth: expected at most {full}, got {depth}")
    own = job.model.state_dict()
    shapes: Shapes | None = None
    if depth == full:
        shapes = {name: list(tensor.shape) for name, tensor in own.items()}
        _check_model(StoredTensors(checkpoint.folder / MODEL), own)
        parameters = [name for name, _ in job.model.named_parameters()]
        _check_groups(run["param_groups"], parameters, job.recipe, sgd)
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


def _check_sampler(run: Mapping[str, object], job: Job, sgd: bool) -> None:
    sampler = run.get("sampler")
    if not sgd or not isinstance(sampler, dict):
        return
    size = len(job.dataset.train)
    if sampler["size"] != size:
        raise ValueError(f"run.sampler.size: expected {size}, got {sampler['size']}")
    if sampler["position"] >= size:
        raise ValueError(f"run.sampler.position: expected < {size}, got {sampler['position']}")


def _check_groups(
    groups: Sequence[Mapping[str, object]], names: list[str], recipe: Recipe, sgd: bool
) -> None:
    """The groups name the model's parameters, and no rate is beyond the recipe's."""
    found = [name for group in groups for name in group["param_names"]]  # type: ignore[attr-defined]
    numbers = [number for group in groups for number in group["params"]]  # type: ignore[attr-defined]
    if sorted(found) != sorted(names) or sorted(numbers) != list(range(len(names))):
        raise ValueError("run.param_groups: expected the model's parameters, each once")
    for group in groups if sgd else ():
        rate = group.get("lr")
        if not isinstance(rate, int | float) or rate > recipe.optimizer.lr:
            raise ValueError(
                f"run.param_groups.lr: expected a number of at most {recipe.optimizer.lr}, "
                f"got {rate}"
            )
        for field, expected in (
            ("weight_decay", recipe.optimizer.weight_decay),
            ("adagrad", recipe.optimizer.adagrad),
        ):
            if field in group and group[field] != expected:
                raise ValueError(
                    f"run.param_groups.{field}: expected {expected}, got {group[field]}"
                )


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
