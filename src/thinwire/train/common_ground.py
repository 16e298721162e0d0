"""What all workers of a run must share before the first step: what they were given, and a disk."""

import uuid
from importlib.metadata import version

import torch

from thinwire.exchange import DifferentWorkersError, Wire, check_alike, share_text
from thinwire.train.prepare import Job
from thinwire.train.recipe_files import flat_fields

# Workers may be given these differently: where things are on their machine, and how long to wait.
_OWN = {"out", "data.path", "data.test", "resume", "timeout", "workers"}
_STAGE = "agreement"


def check_common_ground(job: Job, wire: Wire) -> None:
    """Refuse workers that would train different things, or whose run folders are on other disks.

    Args:
        job: this worker's.
        wire: the workers.

    Raises:
        DifferentWorkersError: on every worker, with the first field that differs, or with the
            workers that do not see what worker 0 writes into its run folder.
    """
    if wire.world == 1:
        return
    fields = {name: v for name, v in flat_fields(job.recipe).items() if name not in _OWN}
    shapes = {name: [*value.shape] for name, value in job.model.state_dict().items()}
    dtypes = {name: value.dtype for name, value in job.model.state_dict().items()}
    facts = {
        "the version of thinwire": version("thinwire"),
        "the version of torch": torch.__version__,
        **fields,
        "the training data": f"{job.dataset.name} {job.dataset.train.identity}",
        "the number of training samples": len(job.dataset.train),
        "the shapes of the model": shapes,
        "the dtypes of the model": dtypes,
    }
    check_alike(facts, wire, "thinwire train")
    _check_one_disk(job, wire)


def _check_one_disk(job: Job, wire: Wire) -> None:
    name = share_text(f".worker-0-{uuid.uuid4().hex}" if wire.rank == 0 else "", wire, _STAGE)
    path = job.folder / name
    if wire.rank == 0:
        path.touch(exist_ok=False)
    wire.sum(torch.zeros(1, dtype=torch.float64, device="cpu"), _STAGE)  # it is there from here on
    seen = wire.all_gather(torch.tensor([path.exists()], dtype=torch.uint8, device="cpu"), _STAGE)
    if wire.rank == 0:
        path.unlink(missing_ok=True)
    blind = [worker for worker, sees in enumerate(seen) if not sees]
    if blind:
        raise DifferentWorkersError(
            f"run folder {job.folder}: worker{'s' if len(blind) > 1 else ''} "
            f"{', '.join(map(str, blind))} do not see what worker 0 writes there, so no checkpoint "
            "would be complete: give all workers one folder on a shared disk by --out"
        )
