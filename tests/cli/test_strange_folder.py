"""What happens to a run folder while it is trained into ends the job in one line."""

import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_safe_start import command, environment, family, wait_for
from tests.cli.test_train import train
from tests.conftest import fill
from thinwire.train.checkpoint import checkpoints_in, open_checkpoint

GOES_ON = "; once that is mended, the same command goes on from the last checkpoint"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def disturbed(
    data: Path, folder: Path, disturb: Callable[[Path], object], workers: int = 2
) -> list[str]:
    """Do something to the folder of a job that has a checkpoint; what the job says on its end."""
    long = ["--epochs", "100000", "--checkpoint-every", "0.3", "--workers", str(workers)]
    job = subprocess.Popen(
        command(data, folder, *long),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: bool(checkpoints_in(folder)))
        processes = family(job.pid)
        disturb(folder)
        said = job.communicate(timeout=100)[1]
    finally:
        job.kill()
        job.wait()
    assert job.returncode == 1, said
    assert "Traceback" not in said
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]
    return [line for line in said.splitlines() if GOES_ON in line]


@pytest.mark.support("a disk that is full while it trains", "trainer", refused=True)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_named_and_the_checkpoints_on_it_are_good(
    idx_folder: Path, small_disk: Path, workers: int
) -> None:
    folder = small_disk / "run"
    (said,) = disturbed(idx_folder, folder, lambda _: fill(small_disk), workers)
    assert f"{folder}/events" in said
    assert f".jsonl: cannot be written: No space left on device{GOES_ON}" in said
    newest, *_ = [open_checkpoint(path) for path in checkpoints_in(folder)]
    (small_disk / "filler").unlink()
    epochs = str(newest.facts["run"]["sampler"]["epoch"] + 1)
    many = ("--workers", str(workers), "--epochs", epochs)
    again = train(folder, idx_folder, *many)
    assert again.returncode == 0, again.stderr
    assert f"step {newest.step}, written by {workers} worker" in again.stdout


@pytest.mark.support("a run folder that is removed while it trains", "trainer", refused=True)
@pytest.mark.parametrize(
    "disturb",
    [
        shutil.rmtree,
        lambda folder: folder.rename(folder.with_name("elsewhere")),
        lambda folder: (folder / "events-rank1.jsonl").unlink(),
    ],
    ids=["removed", "moved", "one worker's file removed"],
)
def test_a_run_folder_that_is_gone_is_named_and_not_made_anew(
    idx_folder: Path, tmp_path: Path, disturb: Callable[[Path], object]
) -> None:
    folder = tmp_path / "run"
    (said,) = disturbed(idx_folder, folder, disturb)
    assert f"{folder}/events" in said
    assert ".jsonl: has been removed, moved or replaced while it was being written" in said
    assert not folder.exists() or (folder / "events.jsonl").exists()


def test_files_that_may_not_grow_are_named(idx_folder: Path, tmp_path: Path) -> None:
    """As on a file system with a quota: no checkpoint can be written, then no event."""
    most = 20_000

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    done = subprocess.run(
        command(idx_folder, tmp_path, "--epochs", "100000", "--checkpoint-every", "0.1"),
        env=environment(),
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    assert "not written: worker 0: checkpoints/.step-" in done.stdout
    said = f"thinwire train: {tmp_path / 'events.jsonl'}: cannot be written: File too large"
    assert done.stderr.splitlines()[-1] == said + GOES_ON
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "checkpoints").iterdir())
