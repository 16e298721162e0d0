"""Layer-wise pre-training as stages of a run of minibatches."""

import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

from tests.conftest import RunRanks
from tests.train.test_resume import figures, recipe_of, run_once
from thinwire.data import MinibatchSampler
from thinwire.models import build_model, grow
from thinwire.report import load_run
from thinwire.train import make_plan, prepare
from thinwire.train.fields import ModelFields
from thinwire.train.pretraining import stage_seed

HIDDEN = (30, 20, 12)
# 2 minibatches of 60 in each of 2 stages, then 20: the serial start ends in the last stage.
FIELDS = {"model": ModelFields(hidden=HIDDEN, pretrain=100)}
EXACT = {"code": "float32", "start_samples": 0, "bucket_mb": 25.0}


def test_it_is_training_ever_deeper_networks_one_after_another(
    idx_folder: Path, tmp_path: Path
) -> None:
    """Against torch.optim.SGD, the stages written out."""
    fields = {**FIELDS, "exchange": EXACT, "optimizer": {"lr_decay": 1.0}}
    recipe = recipe_of(idx_folder, tmp_path, **fields)
    data = prepare("tiny", recipe, lambda _: None).dataset.train
    momentum = torch.tensor(-60 / 100.0).exp().item()
    trained = None
    for depth in (1, 2, 3):
        model = build_model(36, HIDDEN[:depth], 10, "relu", recipe.seed)
        if trained is not None:
            grow(trained, model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=momentum)
        sampler = MinibatchSampler(600, 60, stage_seed(recipe, depth))
        for _ in range(20 if depth == 3 else 2):
            chosen = sampler.next_minibatch()
            optimizer.zero_grad()
            F.cross_entropy(model(data.inputs[chosen]), data.targets[chosen]).backward()
            optimizer.step()
        trained = model
    assert trained is not None
    summary, _, said = run_once(0, 1, idx_folder, tmp_path, None, fields)
    found = safetensors.torch.load_file(tmp_path / "model.safetensors")
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=2e-5, rtol=1e-4)
    assert summary is not None
    assert (summary["steps"], summary["samples"]) == (24, 1440)
    lines = ("pre-training 1 of 3 hidden layers from step 1", "training from step 5")
    assert all(line in said for line in lines)


def test_orders_of_samples_differ_and_the_last_is_the_runs_own(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, tmp_path, **FIELDS)
    seeds = [stage_seed(recipe, depth) for depth in (1, 2, 3)]
    assert len(set(seeds)) == 3
    assert seeds[-1] == recipe.seed


def test_every_stage_is_told_evaluated_and_its_bytes_are_counted(
    run_ranks: RunRanks, idx_folder: Path, tmp_path: Path
) -> None:
    fields = {**FIELDS, "exchange": EXACT}
    summary = run_ranks(2, run_once, idx_folder, tmp_path, None, fields)[0][0]
    run = load_run(tmp_path)
    assert [(phase["name"], phase["step"]) for phase in run.phases] == [
        ("pre-training 1 of 3 hidden layers", 1),
        ("pre-training 2 of 3 hidden layers", 3),
        ("training", 5),
    ]
    assert [epoch["step"] for epoch in run.epochs] == [2, 4, 14, 24]
    widths = [(36, *HIDDEN[:depth], 10) for depth in (1, 2, 3)]
    params = [sum((i + 1) * o for i, o in pairwise(w)) for w in widths]
    dense = sum(steps * 4 * n for steps, n in zip((2, 2, 20), params, strict=True))
    assert summary["params"] == params[-1]
    assert summary["dense_bytes_per_worker"] == dense
    traffic = {part["stage"]: part for part in summary["traffic"]}
    assert traffic["gradients"]["collectives"] == traffic["updates"]["collectives"] == 24
    sent = traffic["gradients"]["bytes"] + traffic["updates"]["bytes"]
    assert dense < sent < 1.05 * dense, "headers and uneven stripes"
    assert traffic["initial parameters"]["collectives"] == 3


@pytest.mark.parametrize(
    ("world", "fields"),
    [
        (1, {}),
        (2, {}),
        pytest.param(
            *(2, {"exchange": {"start_samples": 0}, "optimizer": {"adagrad": "aggregate"}}),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            2, {"exchange": {"start_samples": 0, "double_buffer": True}}, marks=pytest.mark.slow
        ),
    ],
    ids=str,
)
def test_a_run_stopped_again_and_again_is_the_same_run(
    run_ranks: RunRanks, idx_folder: Path, tmp_path: Path, world: int, fields: dict[str, Any]
) -> None:
    """After every step of pre-training: within stages and between them."""
    fields = {**FIELDS, **fields}
    straight = run_ranks(world, run_once, idx_folder, tmp_path / "a", None, fields)[0][0]
    for step in range(1, 6):
        results = run_ranks(world, run_once, idx_folder, tmp_path / "b", 0, fields)
        assert {agreed for _, agreed, _ in results} == {signal.SIGTERM}
        assert f"stopped by SIGTERM after step {step};" in results[0][2]
    resumed = run_ranks(world, run_once, idx_folder, tmp_path / "b", None, fields)[0][0]
    assert figures(resumed) == figures(straight)
    one, other = (load_run(tmp_path / name) for name in "ab")
    assert [p["step"] for p in other.phases] == [p["step"] for p in one.phases] == [1, 3, 5]


def test_a_run_goes_on_with_other_numbers_of_workers(
    run_ranks: RunRanks, idx_folder: Path, tmp_path: Path
) -> None:
    """2 -> 3 within the second stage, -> 1 in the last."""
    fields = {**FIELDS, "exchange": {"start_samples": 0}, "optimizer": {"lr": 0.1}}
    assert run_ranks(2, run_once, idx_folder, tmp_path, 2, fields)[0][1] == signal.SIGTERM
    assert run_ranks(3, run_once, idx_folder, tmp_path, 3, fields)[0][1] == signal.SIGTERM
    summary, _, said = run_ranks(1, run_once, idx_folder, tmp_path, None, fields)[0]
    assert "step 7, written by 3 workers" in said
    assert summary["steps"] == 24
    assert summary["test_error"] < 0.5


def test_another_pre_training_is_another_run(idx_folder: Path, tmp_path: Path) -> None:
    run_once(0, 1, idx_folder, tmp_path, 0, FIELDS)
    other = {"model": ModelFields(hidden=HIDDEN, pretrain=200)}
    job = prepare("tiny", recipe_of(idx_folder, tmp_path, **other), lambda _: None)
    with pytest.raises(ValueError, match=r"model.pretrain was 100, now it is 200"):
        make_plan(job)


def test_stages_longer_than_the_run_itself_go_on(idx_folder: Path, tmp_path: Path) -> None:
    fields = {"model": ModelFields(hidden=HIDDEN, pretrain=1500), "epochs": 1}
    assert run_once(0, 1, idx_folder, tmp_path, 20, fields)[1] == signal.SIGTERM
    summary, _, said = run_once(0, 1, idx_folder, tmp_path, None, fields)
    assert "going on from" in said
    assert summary is not None
    assert summary["steps"] == 25 + 25 + 10


def test_a_serial_start_longer_than_an_epoch_is_evaluated_when_it_ends(
    run_ranks: RunRanks, idx_folder: Path, tmp_path: Path
) -> None:
    """Until then only worker 0 has the model."""
    fields = {"exchange": {"start": "serial", "start_samples": 720}}
    run_ranks(2, run_once, idx_folder, tmp_path, None, fields)
    assert [epoch["step"] for epoch in load_run(tmp_path).epochs] == [20]
