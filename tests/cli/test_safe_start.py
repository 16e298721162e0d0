"""How jobs start: whom they listen to, what they import, and with whom they share a folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.test_train import SMALL

LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "THINWIRE"))}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def command(data: Path, folder: Path, *args: str) -> list[str]:
    thinwire = str(Path(sys.executable).with_name("thinwire"))
    return [
        thinwire,
        "train",
        "mnist-onebit",
        "--data",
        str(data),
        "--out",
        str(folder),
        *SMALL,
        *args,
    ]


@contextmanager
def long_job(data: Path, folder: Path, **options: object) -> Iterator["subprocess.Popen[str]"]:
    """Two workers that train until they are stopped; entered once they take steps."""
    job = subprocess.Popen(
        command(data, folder, "--workers", "2", "--epochs", "100000"),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    try:
        events = folder / "events.jsonl"
        wait_for(lambda: events.exists() and '"step"' in events.read_text())
        yield job
    finally:
        job.kill()
        job.wait()


def wait_for(there: Callable[[], bool], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [d for child in task.read_text().split() for d in family(int(child))]
    return found


def listening(pids: list[int]) -> list[str]:
    """The addresses on which these processes wait for connections, as /proc/net has them."""
    links = [p for pid in pids for p in Path(f"/proc/{pid}/fd").glob("*")]
    sockets = {str(link.readlink()) for link in links if link.is_symlink()}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return [
        row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_workers_listen_on_loopback_only_and_import_nothing_from_here(
    idx_folder: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for module in ("jinja2", "rich", "numpy"):
        (here / f"{module}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit(3)\n"
        )
    with long_job(idx_folder, tmp_path / "run", cwd=here) as job:
        addresses = listening(family(job.pid))
        assert addresses, "gloo listens somewhere"
        assert set(addresses) <= set(LOOPBACK)
    assert not (tmp_path / "ran").exists()


def test_a_second_job_in_one_folder_is_refused_and_workers_end_with_their_launcher(
    idx_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with long_job(idx_folder, folder) as job:
        workers = family(job.pid)[1:]
        assert len(workers) >= 2
        second = subprocess.run(
            command(idx_folder, folder, "--workers", "2"),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert second.returncode == 2
        assert "trains into it; wait until it has ended" in second.stderr
        assert "Traceback" not in second.stderr
        job.send_signal(signal.SIGKILL)
        job.wait()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert any((folder / "checkpoints").glob("step-*")), "told to stop, workers write a checkpoint"


def both(
    data: Path, folders: list[Path], *args: list[str]
) -> list["subprocess.CompletedProcess[str]"]:
    """Two workers that some other launcher started, each with arguments of its own."""
    store = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29000 + os.getpid() % 900)}
    jobs = [
        subprocess.Popen(
            command(data, folders[rank], *args[rank]),
            env=environment(RANK=str(rank), WORLD_SIZE="2", **store),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [job.communicate(timeout=100) for job in jobs]
    return [
        subprocess.CompletedProcess(job.args, job.returncode, *texts)
        for job, texts in zip(jobs, told, strict=True)
    ]


@pytest.mark.support(
    "workers that were given different options or parameters", "trainer", refused=True
)
@pytest.mark.parametrize(
    ("flag", "one", "other", "said"),
    [
        ("--seed", "1", "2", "seed is not the same on all workers: 1 on worker 0; 2 on worker 1"),
        ("--exchange.code", "sign", "4-bit", "exchange.code is not the same"),
    ],
)
def test_workers_that_were_given_different_things(
    flag: str, one: str, other: str, said: str, idx_folder: Path, tmp_path: Path
) -> None:
    first, second = both(idx_folder, [tmp_path / "run"] * 2, [flag, one], [flag, other])
    assert (first.returncode, second.returncode) == (2, 2)
    assert said in first.stderr
    assert "Traceback" not in first.stderr + second.stderr


@pytest.mark.support("machines that do not share a disk", "trainer", refused=True)
def test_workers_whose_folders_are_on_other_disks(idx_folder: Path, tmp_path: Path) -> None:
    first, second = both(idx_folder, [tmp_path / "one", tmp_path / "other"], [], [])
    assert (first.returncode, second.returncode) == (2, 2)
    assert "worker 1 do" in first.stderr
    assert not list((tmp_path / "other").glob("checkpoints/*"))
