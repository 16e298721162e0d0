"""Runs that stop and go on: the same numbers, whatever the number of workers."""

import io
import json
import math
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.conftest import THREADS, RunRanks
from thinwire.exchange import Ledger, shared_wire
from thinwire.report import load_run, read_events
from thinwire.train import Plan, Recipe, agreement, make_plan, prepare, train
from thinwire.train.agreement import Agreement
from thinwire.train.checkpoint import MANIFEST, checkpoints_in, open_checkpoint, write_manifest
from thinwire.train.display import Display
from thinwire.train.recipe import ExchangeFields, ModelFields, OptimizerFields
from thinwire.train.state import MinibatchState
from thinwire.train.stop import StopSignals

EXCHANGE = {"start": "serial", "start_samples": 300, "bucket_mb": 0.02}
IN_FLIGHT = {"exchange": {"double_buffer": True}}
OPTIMIZER = {"lr": 0.02, "lr_decay": 0.5, "momentum_time_constant": 100.0}


class StopAfter(StopSignals):
    """As if SIGTERM came during the given step, counted from where the run took up."""

    def __init__(self, step: int | None) -> None:
        self.reads = -1
        self.step = step
        super().__init__()

    @property
    def received(self) -> int:
        self.reads += 1
        return signal.SIGTERM if self.step is not None and self.reads >= self.step else 0

    @received.setter
    def received(self, number: int) -> None: ...


def recipe_of(data: Path, folder: Path, **fields: Any) -> Recipe:
    """Twenty steps, the first five a serial cold start."""
    optimizer = OptimizerFields(**{**OPTIMIZER, **fields.pop("optimizer", {})})
    exchange = ExchangeFields(**{**EXCHANGE, **fields.pop("exchange", {})})
    base = {"epochs": 2, "minibatch": 60, "log_every": 4, "model": ModelFields(hidden=(90, 30))}
    return Recipe(
        data=data, out=folder, optimizer=optimizer, exchange=exchange, **{**base, **fields}
    )


def run_once(
    rank: int, world: int, data: Path, folder: Path, stop: int | None, fields: dict[str, Any]
) -> tuple[dict[str, Any] | None, int, str]:
    """One start of the run on one rank: summary, the signal it stopped for, what it said."""
    torch.set_num_threads(THREADS)
    agreement.PACE = 0.0  # at every step, so that the tests know where a run stops
    job = prepare("tiny", recipe_of(data, folder, **fields), lambda _: None)
    plan = make_plan(job) if rank == 0 else Plan()
    said = io.StringIO()
    signals = StopAfter(stop if rank == world - 1 else None)
    display = Display(1, Console(file=said, width=1000) if rank == 0 else None)
    summary = train(job, display, signals, plan)
    return summary, signals.agreed, said.getvalue()


def figures(summary: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on clocks and on how often the run was stopped."""
    changing = {"seconds", "samples_per_second", "times"}
    changing |= {"traffic", "bytes_sent_per_worker", "compression"}
    kept = {key: value for key, value in summary.items() if key not in changing}
    traffic = {part["stage"]: part for part in summary["traffic"]}
    return {**kept, "traffic": [traffic.get(stage) for stage in ("gradients", "updates")]}


@pytest.mark.parametrize(
    ("world", "fields"),
    [
        (1, {}),
        (2, {"optimizer": {"adagrad": "aggregate"}, "exchange": {"axis": "input"}}),
        pytest.param(3, {"optimizer": {"adagrad": "local"}}, marks=pytest.mark.slow),
        pytest.param(2, {"exchange": {"start": "float32"}}, marks=pytest.mark.slow),
        pytest.param(
            *(2, {"exchange": {"double_buffer": True}, "optimizer": {"weight_decay": 0.01}}),
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_a_run_stopped_again_and_again_is_the_same_run(
    run_ranks: RunRanks, idx_folder: Path, tmp_path: Path, world: int, fields: dict[str, Any]
) -> None:
    """Every third step: in the serial start, at its end, within epochs, at their end."""
    straight = run_ranks(world, run_once, idx_folder, tmp_path / "a", None, fields)[0][0]
    for start in range(6):
        results = run_ranks(world, run_once, idx_folder, tmp_path / "b", 2, fields)
        assert {agreed for _, agreed, _ in results} == {signal.SIGTERM}, "all at the same step"
        assert f"stopped by SIGTERM after step {3 * start + 3};" in results[0][2]
        assert start == 0 or f"step {3 * start}, written by {world} worker" in results[0][2]
    resumed = run_ranks(world, run_once, idx_folder, tmp_path / "b", None, fields)[0][0]
    assert figures(resumed) == figures(straight)
    one, other = (load_run(tmp_path / name) for name in "ab")
    for kind in ("steps", "epochs"):
        for event, expected in zip(getattr(other, kind), getattr(one, kind), strict=True):
            for key in ("step", "epoch", "loss", "train_loss", "test_loss", "lr"):
                assert event.get(key) == expected.get(key)
    assert other.finished
    assert other.summary["seconds"] > 0


def restored(rank: int, world: int, data: Path, folder: Path) -> dict[str, Any]:
    """What this worker holds when it has taken up the run's checkpoint."""
    job = prepare("tiny", recipe_of(data, folder, **IN_FLIGHT), lambda _: None)
    checkpoint = make_plan(job).checkpoint
    assert checkpoint is not None
    training = MinibatchState(job, world)
    training.restore(checkpoint, rank, world)
    tensors, facts = training.own()
    traffic = training.optimizer.ledger.total().bytes
    training.optimizer.close()
    return {"tensors": {k: v.clone() for k, v in tensors.items()}, **facts, "bytes": traffic}


@pytest.mark.slow
def test_a_run_goes_on_with_other_numbers_of_workers(
    run_ranks: RunRanks, idx_folder: Path, tmp_path: Path
) -> None:
    """4 -> 2 -> 3 -> 1: what all workers carry, and have sent, keeps its total.

    Double-buffered: what is in flight goes along.
    """
    folder = tmp_path / "run"
    for world, following in ((4, 2), (2, 3), (3, 1)):
        assert run_ranks(world, run_once, idx_folder, folder, 5, IN_FLIGHT)[0][1] == signal.SIGTERM
        before = run_ranks(world, restored, idx_folder, folder)
        after = run_ranks(following, restored, idx_folder, folder)
        kept = [k for k in before[0]["tensors"] if k.endswith("residual") or k.startswith("since")]
        for key in (key for key in kept if not key.endswith("owner_residual")):
            one, other = (sum(w["tensors"][key].double() for w in side) for side in (before, after))
            rounding = 2**-24 * sum(w["tensors"][key].double().abs() for w in after)
            assert bool(((one - other).abs() <= 1.001 * rounding).all()), key
        for side in (before, after):
            owned = [worker["owned"] for worker in side]
            runs = sorted(part["0.weight"] for part in owned if "0.weight" in part)
            assert (runs[0][0], runs[-1][1]) == (0, 90 * 36)
        assert sum(w["bytes"] for w in before) == sum(w["bytes"] for w in after)
        pending = [key for key in before[0]["tensors"] if key.endswith("pending")]
        assert len(pending) == 6
        for key in pending:  # worker 0 stores what all hold
            assert bool(before[0]["tensors"][key].any())
            assert torch.equal(before[0]["tensors"][key], after[0]["tensors"][key])
    summary, _, said = run_ranks(1, run_once, idx_folder, folder, None, IN_FLIGHT)[0]
    assert "written by 3 workers" in said
    assert summary["steps"] == 20
    assert summary["test_error"] < 0.5
    starts = [e for e in read_events(folder / "events.jsonl") if e["event"] == "start"]
    assert [(e["workers"], e["resumed_step"]) for e in starts] == [
        *((4, None), (2, 6), (3, 12), (1, 18)),
    ]


def agree(rank: int, world: int, pace: float) -> list[tuple[int, int]]:
    """(step, agreed) where worker 1 begins to wish for a stop at step 100."""
    agreement.PACE = pace
    wire = shared_wire(None, Ledger())
    talk, found = Agreement(wire), []
    for step in range(1000):
        agreed = talk.receive()
        found += [(step, agreed)] if agreed else []
        if agreed:
            break
        talk.post(4 if rank == 1 and step >= 100 else 0)
        wire.sum(torch.zeros(1), "step")
    return [*found, (wire.ledger.stages["agreement"].collectives, 0)]


def test_all_agree_at_the_same_step_and_rarely_where_steps_are_short(run_ranks: RunRanks) -> None:
    every = run_ranks(2, agree, 0.0)
    assert every == [[(101, 4), (101, 0)]] * 2
    rarely = run_ranks(2, agree, 10.0)
    assert rarely[0] == rarely[1]
    (step, agreed), (collectives, _) = rarely[0]
    assert agreed == 4
    assert 100 < step <= 100 + 130
    assert collectives < 20


# --- one worker, in this process ------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the checkpoints of steps 8 and 9."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    assert run_once(0, 1, idx_folder, folder, 8, {"checkpoint_every": 0.0})[1] == signal.SIGTERM
    assert [path.name for path in checkpoints_in(folder)] == ["step-00000009", "step-00000008"]
    return folder


@pytest.fixture
def folder(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(bytes(content))


def other_schema(path: Path) -> None:
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("worker-0.safetensors", cut, r"worker-0.safetensors has \d+ bytes, expected \d+"),
        ("model.safetensors", flip, "model.safetensors has been altered"),
        ("worker-0.safetensors", Path.unlink, "worker-0.safetensors is missing"),
        ("manifest.json", Path.unlink, "manifest.json is missing"),
        ("manifest.json", cut, "manifest.json cannot be read"),
        ("manifest.json", flip, "manifest.json has been altered"),
        ("manifest.json", other_schema, "schema 99, expected 1"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_used(
    idx_folder: Path, folder: Path, file: str, damage: Any, reason: str
) -> None:
    damage(folder / "checkpoints" / "step-00000009" / file)
    plan = make_plan(prepare("tiny", recipe_of(idx_folder, folder), lambda _: None))
    assert plan.checkpoint is not None
    assert plan.checkpoint.step == 8
    assert re.search(rf"step-00000009 cannot be used: .*{reason}", plan.remarks[0])
    assert "going on from" in plan.remarks[1]
    assert "step-00000008" in plan.remarks[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"optimizer": {"lr": 0.5}}, "optimizer.lr was 0.02, now it is 0.5"),
        ({"seed": 3}, "seed was 0, now it is 3"),
        ({"model": ModelFields(hidden=(91, 30))}, "model.hidden was [90, 30], now it is [91, 30]"),
        ({"exchange": {"axis": "input"}}, "exchange.axis was output, now it is input"),
    ],
    ids=str,
)
def test_another_runs_folder_is_not_overwritten(
    idx_folder: Path, folder: Path, change: dict[str, Any], reason: str
) -> None:
    job = prepare("tiny", recipe_of(idx_folder, folder, **change), lambda _: None)
    with pytest.raises(ValueError, match=rf"it is of another run: {re.escape(reason)}. Choose"):
        make_plan(job)
    overwriting = recipe_of(idx_folder, folder, resume="never", **change)
    assert make_plan(prepare("tiny", overwriting, lambda _: None)).anew
    forced = prepare(
        "tiny", recipe_of(idx_folder, folder, resume=str(folder), **change), lambda _: None
    )
    with pytest.raises(ValueError, match=f"--resume .*{re.escape(reason)}"):
        make_plan(forced)


def test_other_data_is_another_run(idx_folder: Path, folder: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(idx_folder, tmp_path / "data"))
    flip(data / "train-labels-idx1-ubyte")
    with pytest.raises(ValueError, match="the training data were"):
        make_plan(prepare("tiny", recipe_of(data, folder), lambda _: None))


def test_what_does_not_matter_may_change(idx_folder: Path, folder: Path) -> None:
    changed = recipe_of(
        idx_folder, folder, epochs=3, log_every=7, timeout=9.0, checkpoint_every=5.0
    )
    plan = make_plan(prepare("tiny", changed, lambda _: None))
    assert plan.checkpoint is not None
    assert plan.checkpoint.step == 9


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ({}, ""),
        ({"threads": "64"}, f"threads a worker 64 then, {THREADS} now"),
        ({"instructions": "NEON", "mkl": "SSE2"}, "instructions NEON then, .*CBWR SSE2 then, "),
        (None, ""),
    ],
    ids=["the same", "threads", "processor", "unknown"],
)
def test_another_arithmetic_is_remarked_on(
    idx_folder: Path, folder: Path, before: dict[str, str] | None, told: str
) -> None:
    path = folder / "checkpoints" / "step-00000009"
    facts = json.loads((path / MANIFEST).read_text())
    del facts["sha256"], facts["schema"]
    assert facts["arithmetic"]["threads"] == str(THREADS)
    arithmetic = facts.pop("arithmetic")
    if before is not None:
        facts["arithmetic"] = {**arithmetic, **before}
    write_manifest(path, facts, facts.pop("files"))
    plan = make_plan(prepare("tiny", recipe_of(idx_folder, folder), lambda _: None))
    assert plan.checkpoint is not None
    assert plan.checkpoint.step == 9
    remarks = [line for line in plan.remarks if "to rounding and not to the bit" in line]
    assert len(remarks) == bool(told)
    assert all(re.search(told, line) for line in remarks)


def test_a_finished_run_is_not_trained_again_but_may_go_on(
    idx_folder: Path, folder: Path, tmp_path: Path
) -> None:
    summary, _, said = run_once(0, 1, idx_folder, folder, None, {})
    assert summary is not None
    assert "step 9" in said
    before = (folder / "summary.json").read_bytes()
    again, _, said = run_once(0, 1, idx_folder, folder, None, {})
    assert again is None
    assert "this run has finished; --resume never trains it anew" in said
    assert (folder / "summary.json").read_bytes() == before
    (folder / "summary.json").unlink()
    again, _, said = run_once(0, 1, idx_folder, folder, None, {})
    assert again is not None
    assert figures(again) == figures(summary), "from the last checkpoint"
    longer, _, _ = run_once(0, 1, idx_folder, folder, None, {"epochs": 3})
    straight, _, _ = run_once(0, 1, idx_folder, tmp_path / "straight", None, {"epochs": 3})
    assert longer is not None
    assert straight is not None
    assert longer["params_sha256"] == straight["params_sha256"] != summary["params_sha256"]
    with pytest.raises(ValueError, match=r"it has trained 3.00 epochs, expected 1 in all"):
        run_once(0, 1, idx_folder, folder, None, {"epochs": 1})
    shorter, _, _ = run_once(0, 1, idx_folder, folder, None, {"epochs": 1, "resume": "never"})
    assert shorter is not None
    assert shorter["steps"] == 10
    assert [path.name for path in checkpoints_in(folder)] == ["step-00000010"]


def test_never_begins_anew_and_a_path_goes_back(
    idx_folder: Path, folder: Path, tmp_path: Path
) -> None:
    oldest = str(folder / "checkpoints" / "step-00000008")
    other = tmp_path / "other"
    _, _, said = run_once(0, 1, idx_folder, other, 0, {"resume": oldest})
    assert f"going on from {oldest}" in said
    assert "after step 9;" in said
    _, _, said = run_once(0, 1, idx_folder, folder, 2, {"resume": oldest})
    assert "after step 11;" in said
    _, _, said = run_once(0, 1, idx_folder, folder, 0, {"resume": "never"})
    assert "after step 1;" in said
    assert [path.name for path in checkpoints_in(folder)] == ["step-00000001"]
    for path, reason in ((tmp_path / "none", "a checkpoint or a run folder"), (other, "")):
        shutil.rmtree(other, ignore_errors=True)
        job = prepare("tiny", recipe_of(idx_folder, folder, resume=str(path)), lambda _: None)
        with pytest.raises(ValueError, match=f"--resume .*{reason}"):
            make_plan(job)


def test_a_restarted_worker_goes_on_whatever_resume_said(
    idx_folder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(where: Path, resume: str) -> Plan:
        recipe = recipe_of(idx_folder, where, resume=resume)
        return make_plan(prepare("tiny", recipe, lambda _: None))

    oldest = str(folder / "checkpoints" / "step-00000008")
    for restarts, steps in (("0", [None, 8]), ("1", [9, 9])):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
        plans = [plan(folder, "never"), plan(folder, oldest)]
        assert [p.checkpoint.step if p.checkpoint else None for p in plans] == steps
    assert plan(tmp_path / "empty", oldest).checkpoint.step == 8  # type: ignore[union-attr]


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(
    idx_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    summary, _, said = run_once(0, 1, idx_folder, tmp_path, None, {"checkpoint_every": 0.0})
    assert summary is not None
    assert "checkpoint of step 1 not written: worker 0: " in said


def test_nothing_is_unpickled(
    idx_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something is being unpickled")

    for name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load"):
        monkeypatch.setattr(name, refuse)
    summary, _, said = run_once(0, 1, idx_folder, folder, None, {})
    assert summary is not None
    assert "step 9" in said


def test_a_manifest_that_points_elsewhere_is_refused(folder: Path) -> None:
    from thinwire.train.checkpoint import _digest

    path = folder / "checkpoints" / "step-00000009"
    facts = json.loads((path / MANIFEST).read_text())
    del facts["sha256"]
    facts["files"]["../../config.toml"] = facts["files"].pop("model.safetensors")
    (path / MANIFEST).write_text(json.dumps({**facts, "sha256": _digest(facts)}))
    with pytest.raises(ValueError, match="outside of the folder"):
        open_checkpoint(path)


def rewritten(path: Path, change: Any) -> None:
    """A checkpoint whose manifest says something else, with the right digest."""
    facts = json.loads((path / MANIFEST).read_text())
    del facts["sha256"], facts["schema"]
    change(facts["run"])
    write_manifest(path, facts, facts.pop("files"))


@pytest.mark.parametrize(
    ("part", "name", "value", "expected"),
    [
        ("param_groups", "momentum", 0.25, f"{math.exp(-60 / 100)}"),
        ("param_groups", "weight_decay", 0.5, "0.0"),
        ("param_groups", "adagrad", "local", "none"),
        ("param_groups", "eps", 1.0, "1e-10"),
        ("param_groups", "batch_size", 61, "60"),
        ("param_groups", "code", "4-bit", "sign"),
        ("param_groups", "code", ["sign", "4-bit"], "sign"),
        ("param_groups", "initial_lr", 0.01, "0.02"),
        ("scheduler", "gamma", 0.75, "0.5"),
        ("scheduler", "base_lrs", [0.01], "[0.02]"),
        ("sampler", "seed", 7, "0"),
        ("sampler", "minibatch", 61, "60"),
        ("sampler", "size", 599, "600"),
    ],
    ids=str,
)
def test_options_that_the_recipe_fixes_are_not_taken_from_a_checkpoint(
    idx_folder: Path, folder: Path, part: str, name: str, value: Any, expected: str
) -> None:
    def change(run: dict[str, Any]) -> None:
        (run[part][0] if part == "param_groups" else run[part])[name] = value

    rewritten(folder / "checkpoints" / "step-00000009", change)
    plan = make_plan(prepare("tiny", recipe_of(idx_folder, folder), lambda _: None))
    said = f"{MANIFEST}: run.{part}.{name}: expected {expected}, as the recipe has it, got {value}"
    assert f"step-00000009 cannot be used: {said}" in plan.remarks[0]
    assert plan.checkpoint is not None
    assert plan.checkpoint.step == 8


@pytest.mark.parametrize("lr", [0.02, 0.005, 0.0])
def test_a_rate_that_schedules_have_lowered_is_taken_from_a_checkpoint(
    idx_folder: Path, folder: Path, lr: float
) -> None:
    rewritten(
        folder / "checkpoints" / "step-00000009", lambda run: run["param_groups"][0].update(lr=lr)
    )
    plan = make_plan(prepare("tiny", recipe_of(idx_folder, folder), lambda _: None))
    assert plan.checkpoint is not None
    assert plan.checkpoint.step == 9


@pytest.mark.parametrize("missing", ["lr", "momentum", "code"])
def test_options_that_are_missing_are_named(idx_folder: Path, folder: Path, missing: str) -> None:
    rewritten(
        folder / "checkpoints" / "step-00000009", lambda run: run["param_groups"][0].pop(missing)
    )
    plan = make_plan(prepare("tiny", recipe_of(idx_folder, folder), lambda _: None))
    assert re.search(rf"run.param_groups.{missing}: expected .*, got None", plan.remarks[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "summary.json cannot be read: Expecting"),
        ("[]", "summary.json cannot be read: the whole: expected object, got array"),
        ('{"steps": true}', "summary.json cannot be read: steps: expected int, got bool"),
        ("[" * 100_000, "summary.json cannot be read: "),
    ],
    ids=["cut", "a list", "a truth value", "nested"],
)
def test_damaged_results_are_named_and_not_overwritten(
    idx_folder: Path, folder: Path, text: str, said: str
) -> None:
    (folder / "summary.json").write_text(text)
    job = prepare("tiny", recipe_of(idx_folder, folder), lambda _: None)
    assert make_plan(job).checkpoint is not None, "it goes on from the checkpoint"
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(ValueError, match=f"run folder {folder}: {said}.*. Choose another folder"):
        make_plan(job)
