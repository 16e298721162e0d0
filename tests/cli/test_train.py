"""``thinwire train`` as a user runs it: processes, folders, failures."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from thinwire import kernels
from thinwire.report import read_events
from thinwire.train import Recipe
from thinwire.train.counts import VECTOR_STAGES

FAULTS = Path(__file__).parent / "faults"
SMALL = [
    *("--epochs", "2", "--minibatch", "60", "--log-every", "4", "--model.hidden", "300", "40"),
    *("--optimizer.lr", "0.02", "--exchange.start-samples", "120", "--exchange.bucket-mb", "0.05"),
]
SUMMARY_KEYS = {
    *("method", "workers", "params", "steps", "samples", "communications"),
    *("bytes_sent_per_worker", "dense_bytes_per_worker", "compression", "compression_steady"),
    *("train_loss", "train_error", "test_error", "seconds", "samples_per_second"),
    *("params_sha256", "replicas_identical", "seed", "versions"),
}


def run(*args: str | Path, fault: str = "none:0:0", **environment: str) -> Any:
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "THINWIRE"))},
        "PYTHONPATH": str(FAULTS),
        "THINWIRE_FAULT": fault,
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    command = [sys.executable, "-m", "thinwire", *map(str, args)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=110)


def train(folder: Path, data: Path, *args: str, recipe: str = "mnist-onebit", **more: Any) -> Any:
    return run("train", recipe, "--data", data, "--out", folder, *SMALL, *args, **more)


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, idx_folder: Path) -> tuple[Path, str]:
    """A finished run of two workers and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    done = train(folder, idx_folder, "--workers", "2")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_run_folder_holds_everything(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    assert {path.name for path in folder.iterdir()} == {
        *("config.toml", "events.jsonl", "events-rank1.jsonl", "summary.json"),
        *("model.safetensors", "normalisation.safetensors", "report.html", "checkpoints"),
        ".lock",
    }
    summary = summary_of(folder)
    assert summary.keys() >= SUMMARY_KEYS
    assert (summary["workers"], summary["steps"], summary["samples"]) == (2, 20, 1200)
    assert summary["replicas_identical"] is True
    assert 0 <= summary["test_error"] < 0.5
    assert "test error" in printed
    assert str(folder) in printed.replace("\n", "")
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    assert sum(tensor.numel() for tensor in tensors.values()) == summary["params"]


def test_events_tell_the_course_of_the_run(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    events = read_events(folder / "events.jsonl")
    assert [e["event"] for e in events if e["event"] != "step"] == [
        "start",
        "epoch",
        "epoch",
        "checkpoint",
        "end",
    ]
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == [4, 8, 12, 16, 20]
    assert steps[-1]["residual_ratio"] is not None
    other = read_events(folder / "events-rank1.jsonl")
    assert other[0]["rank"] == 1
    assert other[-1]["params_sha256"] == events[-1]["params_sha256"]


def test_the_counts_agree_with_each_other(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    summary = summary_of(folder)
    traffic = {stage["stage"]: stage for stage in summary["traffic"]}
    assert sum(t["bytes"] for t in traffic.values()) == pytest.approx(
        summary["bytes_sent_per_worker"], abs=len(traffic)
    )
    vectors = [t["collectives"] for stage, t in traffic.items() if stage in VECTOR_STAGES]
    assert summary["communications"] == sum(vectors)
    assert traffic["updates"]["collectives"] == traffic["gradients"]["collectives"]
    assert summary["dense_bytes_per_worker"] == 20 * 4 * summary["params"]
    own = [read_events(folder / name)[-3] for name in ("events.jsonl", "events-rank1.jsonl")]
    assert {event["event"] for event in own} == {"epoch"}
    # After the last epoch event: the final evaluation's numbers and the checkpoint's digests.
    late = summary["bytes_sent_per_worker"] - sum(e["bytes_sent"] for e in own) / 2
    assert 0 <= late < 1000


@pytest.mark.slow
def test_the_resolved_config_is_a_recipe_that_gives_the_same_run(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = finished
    again = tmp_path / "again"
    done = run("train", folder / "config.toml", "--out", again)
    assert done.returncode == 0, done.stderr
    assert summary_of(again)["params_sha256"] == summary_of(folder)["params_sha256"]


@pytest.mark.slow
def test_torchrun_and_slurm_give_the_same_run(
    finished: tuple[Path, str], idx_folder: Path, tmp_path: Path
) -> None:
    folder, _ = finished
    arguments = ["train", "mnist-onebit", "--data", str(idx_folder), *SMALL, "--out"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", "-m", "thinwire", *arguments, tmp_path / "torchrun"],
        capture_output=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    slurm = {"SLURM_NTASKS": "2", "SLURM_NODELIST": "localhost", "SLURM_JOB_ID": str(os.getpid())}
    tasks = [
        subprocess.Popen(
            [sys.executable, "-m", "thinwire", *arguments, tmp_path / "slurm"],
            env={**os.environ, **slurm, "SLURM_PROCID": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]
    assert [task.wait(timeout=110) for task in tasks] == [0, 0]
    expected = summary_of(folder)["params_sha256"]
    assert summary_of(tmp_path / "torchrun")["params_sha256"] == expected
    assert summary_of(tmp_path / "slurm")["params_sha256"] == expected


@pytest.mark.slow
def test_one_worker_needs_no_process_group(idx_folder: Path, tmp_path: Path) -> None:
    done = train(tmp_path, idx_folder)
    assert done.returncode == 0, done.stderr
    summary = summary_of(tmp_path)
    assert (summary["workers"], summary["bytes_sent_per_worker"]) == (1, 0)
    assert summary["compression"] is None


@pytest.mark.slow
def test_more_workers_than_samples_in_a_minibatch(idx_folder: Path, tmp_path: Path) -> None:
    """Some workers' shares are empty in every step."""
    done = train(tmp_path, idx_folder, "--workers", "3", "--minibatch", "2", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert summary_of(tmp_path)["steps"] == 300


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["train", "mnist-onebitt"], "did you mean 'mnist-onebit'"),
        (["train", "mnist-onebit", "--exchange.cod", "sign"], "did you mean '--exchange.code'"),
        (["train", "mnist-onebit", "--exchange.code", "two"], "'two'"),
        (["train", "mnist-onebit", "--exchange.bits", "1", "3"], "bits: expected 1, 2, 4 or 8"),
        (["train", "mnist-onebit", "--epochs", "many"], "--epochs"),
        (["train", "mnist-onebit", "--epochs", "0"], "epochs: expected >= 1, got 0"),
        (["train", "mnist-onebit", "--optimizer.lr", "-1"], "optimizer.lr: expected >= 0"),
        (["train", "mnist-onebit", "extra"], "unknown argument 'extra'"),
        (["train", "mnist-sgd", "--evaluate-every", "0"], "evaluate_every: expected > 0, got 0"),
        (
            ["train", "mnist-onebit", "--selection.every", "9", "--selection.trial", "80"],
            "selection.trial: expected >= 32768, got 80",
        ),
        (
            ["train", "mnist-onebit", "--decay.held-out", "5"],
            "optimizer.lr_decay: expected 1 where",
        ),
        (
            ["train", "mnist-sgd", "--data", "DATA", "--decay.held-out", "600"],
            "held_out: expected 1 to 599 of 600 samples, got 600",
        ),
        (["train", "mnist-hf-cg", "--epochs", "3"], "epochs: algorithm hessian-free does not"),
        (
            ["train", "mnist-onebit", "--algorithm", "hessian-free", "--model.pretrain", "9"],
            "does not use it",
        ),
        (["train", "mnist-hf-cg", "--hessian-free.method", "newton"], "newton"),
        (["train", "mnist-onebit", "--model.factory", "me"], "package.module:function, got me"),
        (
            ["train", "mnist-onebit", "--data", "DATA", "--model.factory", "nowhere.me:network"],
            "model.factory: nowhere.me cannot be imported",
        ),
        (
            ["train", "mnist-onebit", "--data", "DATA", "--model.start", "/nowhere"],
            "model.start: /nowhere: cannot be read",
        ),
        (["train", "mnist-hf-cg", "--hessian-free.warm-strat", "0"], "--hessian-free.warm-start"),
        (
            ["train", "mnist-hf-cg", "--data", "DATA", "--hessian-free.warm-start", "2"],
            "warm_start: expected 0 to 1, got 2",
        ),
        (["train", "mnist-onebit", "--data", "/nowhere"], "/nowhere"),
        (["train", "mnist-onebit", "--data", "DATA", "--out", "/proc/run"], "/proc/run"),
        (["train", "missing.toml"], "missing.toml"),
        (["report"], "run folder"),
        (["report", "/nowhere"], "/nowhere"),
        (["report", "/nowhere", "--format", "pdf"], "pdf"),
        (["data", "mnits"], "did you mean 'mnist'"),
        (["tarin"], "did you mean 'train'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_one_clear_line_and_exit_code_2(
    args: list[str], said: str, idx_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from thinwire.cli import main

    assert main([str(idx_folder) if arg == "DATA" else arg for arg in args]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not printed.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs = ", "not a TOML file"),
        ("epoch = 3", "did you mean 'epochs'"),
        ("[optimizer]\nlr = 'fast'", "fast"),
        ("[optimizer]\nlr_decay = 2.0", "lr_decay: expected in (0, 1], got 2.0"),
    ],
)
def test_a_bad_recipe_is_named(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from thinwire.cli import main

    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert main(["train", str(path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "mine.toml" in error


def test_mistakes_under_workers_are_found_before_any_worker_starts(
    idx_folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in idx_folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes()[:-1])
    done = train(tmp_path / "out", broken, "--workers", "2")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "idx" in done.stderr


@pytest.mark.slow
def test_a_worker_that_raises_ends_the_job_with_its_own_error_last(
    idx_folder: Path, tmp_path: Path
) -> None:
    done = train(tmp_path, idx_folder, "--workers", "3", fault="raise:1:6")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == "worker 1 failed: ZeroDivisionError: injected into this worker"
    assert "in _faulty" in done.stderr, "with its traceback"


@pytest.mark.slow
def test_a_killed_worker_ends_the_job(idx_folder: Path, tmp_path: Path) -> None:
    done = train(tmp_path, idx_folder, "--workers", "3", fault="kill:2:6")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "worker 2 was killed by SIGKILL"


@pytest.mark.slow
def test_a_hanging_worker_ends_the_job_and_is_named(idx_folder: Path, tmp_path: Path) -> None:
    done = train(tmp_path, idx_folder, "--workers", "3", "--timeout", "12", fault="hang:2:6")
    assert done.returncode == 1
    assert "lost contact with worker 2" in done.stderr.strip().splitlines()[-1]
    assert "sitecustomize.py" in done.stderr, "where it hung"


@pytest.mark.slow
@pytest.mark.parametrize("step", ["1", "6"], ids=["serial start", "steady"])
def test_persistent_nan_stops_the_run_and_is_named(
    idx_folder: Path, tmp_path: Path, step: str
) -> None:
    rank = "0" if step == "1" else "1"
    fault = f"nan:{rank}:{step}"
    done = train(tmp_path, idx_folder, "--workers", "2", "--exchange.max-skips", "3", fault=fault)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(rf"worker {rank}: non-finite gradient in '\d.(weight|bias)'", last)
    assert "4 steps in a row" in last
    events = read_events(tmp_path / "events.jsonl")
    assert sum(event["event"] == "skip" for event in events) == 3
    assert {event["worker"] for event in events if event["event"] == "skip"} == {int(rank)}


def test_report_compares_runs(
    finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from thinwire.cli import main

    folder = str(finished[0])
    assert main(["report", folder, folder, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2
    assert main(["report", folder, "--format", "md"]) == 0
    assert "mnist-onebit" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert main(["report", folder, "--out", str(page)]) == 0
    assert "<svg" in page.read_text()


def test_doctor_says_what_is_active(capsys: pytest.CaptureFixture[str]) -> None:
    from thinwire.cli import main

    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"kernels      {kernels.active()}" in said
    assert "serves CUDA tensors" in said
    assert "gloo" in said


def test_data_inspects_a_folder(idx_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from thinwire.cli import main

    assert main(["data", "mnist", "--data", str(idx_folder)]) == 0
    assert "600 training and 200 test samples, 36 features" in capsys.readouterr().out


def test_flags_are_few_and_known() -> None:
    """Adding a flag is a decision: this list is where it is taken."""
    from thinwire.cli.usage import flags

    assert flags(Recipe) == [
        *(
            "--workers",
            "--model-parallel",
            "--out",
            "--algorithm",
            "--seed",
            "--task",
            "--epochs",
            "--minibatch",
        ),
        *("--log-every", "--evaluate-every", "--timeout", "--resume", "--checkpoint-every"),
        *("--keep-checkpoints", "--max-restarts"),
        *("--data.path", "--data.format", "--data.inputs", "--data.targets", "--data.test"),
        *("--data.test-share", "--data.classes", "--data.splice", "--data.cmvn"),
        "--data.memory-mb",
        *("--model.hidden", "--model.activation", "--model.initialisation", "--model.pretrain"),
        *("--model.normalisation", "--model.factory", "--model.start", "--model.rank"),
        "--model.energy",
        *("--optimizer.lr", "--optimizer.lr-decay", "--optimizer.momentum-time-constant"),
        *("--optimizer.weight-decay", "--optimizer.adagrad", "--exchange.code"),
        *("--exchange.error-feedback", "--exchange.axis", "--exchange.start"),
        *("--exchange.start-samples", "--exchange.start-steps"),
        *("--exchange.bucket-mb", "--exchange.max-skips"),
        "--exchange.double-buffer",
        *("--local.every", "--local.lr", "--local.momentum", "--local.delay"),
        *("--selection.every", "--selection.trial", "--selection.margin", "--selection.growth"),
        *("--selection.largest", "--decay.held-out", "--decay.factor", "--decay.threshold"),
        *("--decay.patience", "--decay.give-up"),
        *("--hessian-free.method", "--hessian-free.iterations", "--hessian-free.curvature-batch"),
        *("--hessian-free.solver-iterations", "--hessian-free.damping"),
        *("--hessian-free.curvature", "--hessian-free.preconditioner"),
        *("--hessian-free.warm-start", "--hessian-free.least-cosine", "--hessian-free.codes"),
    ]
    assert len(flags(Recipe)) <= 72
