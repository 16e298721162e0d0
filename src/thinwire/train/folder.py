"""What a run finds in its folder and what it leaves there of an earlier one."""

import contextlib
import shutil
from pathlib import Path

import safetensors.torch

from thinwire.files import check_regular, write_atomically, writing
from thinwire.train.checkpoint import FOLDER, MODEL, checkpoints_in
from thinwire.train.prepare import Job
from thinwire.train.recipe_files import CONFIG, to_toml
from thinwire.train.resume import Plan
from thinwire.train.summary import SUMMARY

NORMALISATION = "normalisation.safetensors"


def start_folder(job: Job, plan: Plan, rank: int, world: int) -> Path:
    """Make the run folder ready for this worker.

    A run that begins anew clears what an earlier one left under its names; one that goes on keeps
    the events and removes only the results it will write again.

    Returns:
        This worker's event file.
    """
    folder = job.folder
    path = folder / ("events.jsonl" if rank == 0 else f"events-rank{rank}.jsonl")
    goes_on = (
        plan.checkpoint is not None and plan.checkpoint.folder.parent.parent == folder.resolve()
    )
    stale = [] if goes_on else [path]
    if rank == 0:
        stale += [folder / name for name in (SUMMARY, MODEL)]
        if not goes_on:
            stale += _events_of_more_workers(folder, world)
        if plan.anew:
            _forget_checkpoints(folder, plan)
        write_atomically(folder / CONFIG, to_toml(job.recipe))
        write_atomically(folder / NORMALISATION, safetensors.torch.save(vars(job.normalisation)))
    for file in (path, *stale):
        with contextlib.suppress(FileNotFoundError):
            check_regular(file)
    for file in stale:
        with writing(file):
            file.unlink(missing_ok=True)
    return path


def _events_of_more_workers(folder: Path, world: int) -> list[Path]:
    numbered = {
        path: path.stem.removeprefix("events-rank") for path in folder.glob("events-rank*.jsonl")
    }
    return [p for p, number in numbered.items() if number.isdecimal() and int(number) >= world]


def _forget_checkpoints(folder: Path, plan: Plan) -> None:
    """Remove those newer than the one to go on from, or all."""
    if plan.checkpoint is None or plan.checkpoint.folder.parent != (folder / FOLDER).resolve():
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        return
    for path in checkpoints_in(folder):
        if path.name > plan.checkpoint.folder.name:
            shutil.rmtree(path, ignore_errors=True)
