"""Where a run takes up: a checkpoint, the beginning, or nowhere because it has finished."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from thinwire.exchange import Wire, share_text
from thinwire.files import read_text
from thinwire.report.text import clean_text
from thinwire.train.arithmetic import arithmetic, rounding_remark
from thinwire.train.checkpoint import (
    FOLDER,
    MANIFEST,
    MANIFEST_LIMIT,
    Checkpoint,
    Facts,
    checkpoints_in,
    open_checkpoint,
)
from thinwire.train.former_fields import with_present_names
from thinwire.train.manifest import Results, check_kinds
from thinwire.train.prepare import Job
from thinwire.train.pretraining import full_depth
from thinwire.train.recipe import Algorithm, Recipe
from thinwire.train.recipe_files import CONFIG, find_recipe, flat_fields
from thinwire.train.stored_form import check_state
from thinwire.train.summary import SUMMARY

# A run may go on with other values of these; all other fields decide what is computed.
_FREE = {
    *(
        "workers",
        "model_parallel",
        "out",
        "data.path",
        "data.test",
        "epochs",
        "log_every",
        "timeout",
        "exchange.max_skips",
    ),
    *("checkpoint_every", "keep_checkpoints", "max_restarts"),
    "hessian_free.iterations",
}


@dataclass(frozen=True)
class Plan:
    """How a run begins.

    Attributes:
        checkpoint: what to go on from; None begins anew.
        finished: the run folder holds this very run, complete.
        anew: the user asked to forget the run folder's checkpoints.
        remarks: for the user: what was refused and why, what happens instead.
    """

    checkpoint: Checkpoint | None = None
    finished: bool = False
    anew: bool = False
    remarks: tuple[str, ...] = ()


def make_plan(job: Job) -> Plan:
    """Decide how the run begins, from the recipe's ``resume`` and the run folder.

    Workers that a launcher started again go on from what the run has written since, whatever
    ``resume`` said.

    Raises:
        ValueError: ``resume`` names a checkpoint that cannot be used.
    """
    mode = job.recipe.resume
    restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    if mode == "auto" or restarted:
        if _is_finished(job):
            return Plan(finished=True)
        found, refused = _newest_usable(job, checkpoints_in(job.folder))
        if found is None and mode == "auto":
            _refuse_others(job.folder, refused)
        if found is not None or mode == "auto":
            return Plan(found, remarks=_remarks(found, refused, job))
    if mode == "never":
        return Plan(anew=True)
    found, refused = _newest_usable(job, _named(Path(mode)))
    if found is None:
        reasons = "; ".join(refused) or "it holds no checkpoint"
        raise ValueError(f"--resume {mode}: {reasons}")
    return Plan(found, anew=not restarted, remarks=_remarks(found, refused, job))


def _refuse_others(folder: Path, refused: Sequence[str]) -> None:
    """Raise ValueError if a run that begins anew would take the place of what is in the folder."""
    what = refused[0] if refused else "it holds a finished run of another recipe"
    if not refused:
        try:
            _check_results(folder)
        except FileNotFoundError:
            return
        except ValueError as error:
            what = str(error)
    raise ValueError(
        f"run folder {folder}: {what}. Choose another folder by --out, or let --resume never "
        "overwrite what is there"
    )


def share_plan(plan: Plan, job: Job, wire: Wire) -> Plan:
    """Worker 0's plan on every worker."""
    folder = str(plan.checkpoint.folder.resolve()) if plan.checkpoint else ""
    own = json.dumps([folder, plan.finished, plan.anew])
    chosen = json.loads(share_text(own, wire, "agreement"))
    if wire.rank == 0:
        return plan
    checkpoint = None
    if chosen[0]:  # worker 0 has verified it
        text = read_text(Path(chosen[0]) / MANIFEST, limit=MANIFEST_LIMIT)
        checkpoint = Checkpoint(Path(chosen[0]), json.loads(text))
    return Plan(checkpoint, chosen[1], chosen[2])


def identity(job: Job) -> Facts:
    """What a checkpoint must agree in with the job that goes on from it."""
    fields = _without(flat_fields(job.recipe), _FREE)
    return {
        "name": job.name,
        "recipe": fields,
        "data": f"{job.dataset.name} {job.dataset.train.identity}",
        "shapes": {name: list(t.shape) for name, t in job.model.state_dict().items()},
    }


def check_fits(checkpoint: Checkpoint, job: Job) -> None:
    """Raise ValueError, naming the difference, unless the job can go on from the checkpoint."""
    facts, own = checkpoint.facts, identity(job)
    old, new = _without(_completed(facts["recipe"]), _FREE), own["recipe"]
    for field in sorted(old.keys() | new.keys()):
        was, now = old.get(field), new.get(field)
        if was != now or isinstance(was, bool) != isinstance(now, bool):
            was, now = clean_text(was, 200), clean_text(now, 200)
            name = clean_text(field, 80)
            raise ValueError(f"it is of another run: {name} was {was}, now it is {now}")
    for key, what in (("shapes", "the model's shapes"), ("data", "the training data")):
        if facts[key] != own[key] and not (key == "data" and facts[key] == _former_data(job)):
            were, expected = clean_text(facts[key]), clean_text(own[key])
            raise ValueError(f"it is of another run: {what} were {were}, expected {expected}")
    check_state(checkpoint, job)
    _check_length(facts["run"], job.recipe)


def _former_data(job: Job) -> str:
    """The data as former versions told it, which looked at the targets alone."""
    train = job.dataset.train
    targets = train.targets_of(torch.arange(len(train))).numpy()
    return f"{job.dataset.name} {hashlib.sha256(targets.tobytes()).hexdigest()[:16]}"


def _check_length(run: Facts, recipe: Recipe) -> None:
    """Raise ValueError if a checkpoint is beyond what the recipe asks for."""
    if recipe.algorithm == "hessian-free":
        done, asked, unit = run["counts"]["steps"], recipe.hessian_free.iterations, "iterations"
    else:
        full, sampler = full_depth(recipe), run["sampler"]
        if run.get("depth", full) < full:
            return
        done = sampler["epoch"] + sampler["position"] / sampler["size"]
        asked, unit = recipe.epochs, "epochs"
    if done > asked:
        raise ValueError(f"it has trained {done:.2f} {unit}, expected {asked} in all")


def _newest_usable(job: Job, folders: Sequence[Path]) -> tuple[Checkpoint | None, list[str]]:
    """The first of the checkpoints that can be used, and why those before it cannot."""
    refused = []
    for folder in folders:
        try:
            checkpoint = open_checkpoint(folder.resolve())
            check_fits(checkpoint, job)
        except (ValueError, OSError) as error:
            refused.append(f"checkpoint {folder} cannot be used: {error}")
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            refused.append(f"checkpoint {folder} cannot be used: its manifest lacks {error}")
        else:
            return checkpoint, refused
    return None, refused


def _remarks(found: Checkpoint | None, refused: Sequence[str], job: Job) -> tuple[str, ...]:
    if found is None:
        return ()
    workers = f"{found.world} worker{'s' if found.world > 1 else ''}"
    remarks = (*refused, f"going on from {found.folder}: step {found.step}, written by {workers}")
    rounding = rounding_remark(found.facts.get("arithmetic"), arithmetic())
    remarks += (rounding,) if rounding else ()
    fruitless = found.facts["run"].get("decay", {}).get("fruitless", 0)
    if fruitless > job.recipe.decay.give_up:
        ended = f"held-out {job.task.decides.title} ended it there ([decay])"
        remarks += (f"{ended}; more epochs train no further",)
    return remarks


def _named(path: Path) -> list[Path]:
    """The checkpoints a path stands for: one, or those of a run folder, newest first."""
    if path.name == FOLDER:
        path = path.parent
    if not path.is_dir():
        raise ValueError(f"--resume {path}: expected auto, never, a checkpoint or a run folder")
    return checkpoints_in(path) if (path / FOLDER).is_dir() else [path]


def _is_finished(job: Job) -> bool:
    """Whether the run folder holds this recipe's results."""
    try:
        _check_results(job.folder)
        _, before = find_recipe(str(job.folder / CONFIG), follow=False)
    except FileNotFoundError:
        return False
    except (ValueError, RecursionError):
        return False
    differing = _FREE - {"epochs", "hessian_free.iterations", "data.path", "data.test"}
    return _without(_completed(before), differing) == _without(flat_fields(job.recipe), differing)


def _check_results(folder: Path) -> None:
    """Raise ValueError unless a run that has finished left its summary here."""
    try:
        check_kinds(json.loads(read_text(folder / SUMMARY)), Results)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{SUMMARY} cannot be read: {error}") from None


def _completed(fields: dict[str, Any]) -> dict[str, Any]:
    """A stored recipe; what a former version did not know was as it is by default."""
    algorithm: Algorithm = fields.get("algorithm", "sgd")
    return {**flat_fields(Recipe(algorithm=algorithm)), **with_present_names(fields)}


def _without(fields: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}
