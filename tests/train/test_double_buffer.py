"""Runs whose minibatches are exchanged by halves, and where a step's seconds go."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import THREADS
from tests.train.test_resume import recipe_of, run_once
from thinwire.data import MinibatchSampler
from thinwire.report import load_run
from thinwire.train import Plan, prepare, train
from thinwire.train.breakdown import per_step
from thinwire.train.build import build_sgd
from thinwire.train.display import Display
from thinwire.train.replicas import fingerprint

BUFFERED = {"double_buffer": True}


def by_hand(data: Path, folder: Path, fields: dict[str, Any]) -> tuple[str, str]:
    """A user's loop over the same halves: the model before and after what is in flight lands."""
    torch.set_num_threads(THREADS)
    recipe = recipe_of(data, folder, **fields)
    job = prepare("tiny", recipe, lambda _: None)
    model, optimizer = job.model, build_sgd(recipe, job.model)
    sampler = MinibatchSampler(len(job.dataset.train), recipe.minibatch, recipe.seed)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, recipe.optimizer.lr_decay)
    while sampler.epoch < recipe.epochs:
        minibatch = sampler.next_minibatch()
        whole = optimizer.phase != "steady"
        middle = (len(minibatch) + 1) // 2
        for part in [minibatch] if whole else [minibatch[:middle], minibatch[middle:]]:
            optimizer.zero_grad()
            optimizer.samples = len(part)
            logits = model(job.dataset.train.inputs[part])
            F.cross_entropy(logits, job.dataset.train.targets[part]).backward()
            optimizer.step()
        if sampler.position == 0:
            schedule.step()
    before = fingerprint(model.state_dict())
    optimizer.flush()
    optimizer.close()
    return before, fingerprint(model.state_dict())


@pytest.mark.parametrize(
    "fields",
    [
        {"exchange": {"code": "float32", "start_samples": 0}},
        {"minibatch": 77, "optimizer": {"adagrad": "aggregate"}},
    ],
    ids=str,
)
def test_a_minibatch_is_two_halves_after_the_cold_start(
    idx_folder: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    fields = {**fields, "exchange": {**fields.get("exchange", {}), **BUFFERED}}
    summary, _, _ = run_once(0, 1, idx_folder, tmp_path / "run", None, fields)
    assert summary is not None
    in_flight, landed = by_hand(idx_folder, tmp_path / "hand", fields)
    run = load_run(tmp_path / "run")
    assert summary["params_sha256"] == landed, "the last half is in the model that is kept"
    assert run.epochs[-1]["params_sha256"] == in_flight, "evaluations take the model as it is"
    assert summary["steps"] == 2 * -(-600 // fields.get("minibatch", 60))
    assert summary["samples"] == 1200
    assert "double-buffered" in summary["method"]


def test_a_finished_run_goes_on_as_if_it_had_not_ended(idx_folder: Path, tmp_path: Path) -> None:
    """The checkpoint of its last step holds the half in flight."""
    fields = {"exchange": BUFFERED}
    for epochs in (1, 2):
        summary, _, _ = run_once(
            0, 1, idx_folder, tmp_path / "run", None, {**fields, "epochs": epochs}
        )
    straight, _, _ = run_once(0, 1, idx_folder, tmp_path / "straight", None, fields)
    assert summary is not None
    assert straight is not None
    assert summary["params_sha256"] == straight["params_sha256"]
    (tmp_path / "run" / "summary.json").unlink()
    again, _, _ = run_once(0, 1, idx_folder, tmp_path / "run", None, fields)
    assert again is not None
    assert again["params_sha256"] == straight["params_sha256"]


def test_without_a_second_sample_there_is_one_half(idx_folder: Path, tmp_path: Path) -> None:
    exchange = {"start": "serial", "start_samples": 590, **BUFFERED}
    fields = {"minibatch": 1, "epochs": 1, "exchange": exchange, "log_every": 100}
    summary, _, _ = run_once(0, 1, idx_folder, tmp_path, None, fields)
    assert summary is not None
    assert summary["steps"] == 600


@pytest.mark.parametrize("buffered", [False, True])
def test_a_skipped_half_is_told_with_its_step(
    idx_folder: Path, tmp_path: Path, buffered: bool
) -> None:
    """Halves 2 s - 2 and 2 s - 1 are of step s; the last is found when it lands after the end."""
    exchange = {"start_samples": 0, "double_buffer": buffered}
    recipe = recipe_of(idx_folder, tmp_path, exchange=exchange)
    job = prepare("tiny", recipe, lambda _: None)
    bad, calls = {0: 1, 3: 2, 4: 3, 39: 20}, itertools.count()

    def spoil(gradient: Tensor) -> Tensor:
        return gradient * (torch.nan if next(calls) in bad else 1)

    next(iter(job.model.parameters())).register_hook(spoil)
    summary = train(job, Display(1, None), None, Plan(anew=True))
    assert summary is not None
    steps = [event["step"] for event in load_run(tmp_path).skips]
    assert steps == ([*bad.values()] if buffered else [1, 4, 5])
    assert summary["skipped_steps"] == len(steps)


def test_another_recipe_is_another_run(idx_folder: Path, tmp_path: Path) -> None:
    run_once(0, 1, idx_folder, tmp_path, 3, {})
    with pytest.raises(ValueError, match=r"exchange.double_buffer was False, now it is True"):
        run_once(0, 1, idx_folder, tmp_path, 3, {"exchange": BUFFERED})


# --- seconds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffered", [False, True])
def test_the_parts_of_a_step_are_the_step(idx_folder: Path, tmp_path: Path, buffered: bool) -> None:
    """In every event and in the summary; what is told is never more than the counted seconds."""
    fields = {"exchange": {"double_buffer": buffered}, "log_every": 2}
    summary, _, _ = run_once(0, 1, idx_folder, tmp_path, None, fields)
    assert summary is not None
    steps, told = load_run(tmp_path).steps, 0.0
    assert len(steps) == 10
    for times in [summary["times"], *(event["times"] for event in steps)]:
        parts = [times[name] for name in ("frm", "post", "comm", "upd", "other")]
        assert sum(parts) == pytest.approx(times["step"], rel=1e-9)
        assert min(parts) >= -1e-9, "nothing is counted twice"
        assert times["frm"] > 0
        assert times["upd"] > 0
        assert times["post"] + times["hidden"]["post"] > 0
        assert min(times["hidden"].values()) >= 0
        assert times["samples"] == 60
    for event in steps:
        told += 2 * event["times"]["step"]
        assert told <= event["seconds"] + 1e-9


def test_the_breakdown_begins_anew_where_a_run_is_taken_up(
    idx_folder: Path, tmp_path: Path
) -> None:
    run_once(0, 1, idx_folder, tmp_path, 7, {"log_every": 1})
    summary, _, _ = run_once(0, 1, idx_folder, tmp_path, None, {"log_every": 1})
    assert summary is not None
    taken_up = load_run(tmp_path).steps[8:]
    for part in ("step", "frm", "comm"):
        mean = sum(event["times"][part] for event in taken_up) / 12
        assert summary["times"][part] == pytest.approx(mean, rel=1e-6)


def test_a_mean_step_of_a_stretch() -> None:
    before = torch.tensor([2, 100, 9.0, 1, 1, 1, 1, 0, 0, 0], dtype=torch.float64)
    after = torch.tensor([6, 300, 29.0, 9, 3, 5, 3, 2, 4, 8], dtype=torch.float64)
    assert per_step(after - before) == {
        "step": 5.0,
        "frm": 2.0,
        "post": 0.5,
        "comm": 1.0,
        "upd": 0.5,
        "other": 1.0,
        "hidden": {"post": 0.5, "comm": 1.0, "upd": 2.0},
        "samples": 50.0,
    }
    assert per_step(after - after) is None
