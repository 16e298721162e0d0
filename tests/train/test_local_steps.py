"""Runs whose workers take local steps: what is trained, evaluated, stored and taken up again."""

import itertools
import json
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import THREADS, RunRanks
from tests.train.test_resume import figures, recipe_of, run_once
from thinwire import LocalSteps, momentum_from_time_constant
from thinwire.cli.train import recipe_of as recipe_from_flags
from thinwire.cli.usage import UsageError
from thinwire.data import MinibatchSampler
from thinwire.report import load_run
from thinwire.train import Plan, make_plan, prepare, train
from thinwire.train.checkpoint import MANIFEST, checkpoints_in, write_manifest
from thinwire.train.display import Display
from thinwire.train.fields import DecayFields, LocalFields
from thinwire.train.replicas import fingerprint
from thinwire.train.state import MinibatchState

ROUNDS = LocalFields(every=4)
LATE = LocalFields(every=4, momentum=0.3, delay=2)
EXCHANGE = {"start": "4-bit", "start_samples": 0, "start_steps": 3}
FIELDS = {"local": ROUNDS, "exchange": EXCHANGE}


# --- recipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--exchange.start serial", "exchange.start: expected a code with local.every, in whose"),
        ("--exchange.start-samples 9", "exchange.start_samples: expected 0 with local.every, got"),
        ("--exchange.double-buffer True", "exchange.double_buffer: expected False with local.ever"),
        ("--optimizer.adagrad aggregate", "optimizer.adagrad: expected none with local.every, got"),
        ("--selection.every 60000", "selection.every: expected 0 with local.every, got 60000"),
        ("--model.pretrain 600", "model.pretrain: expected 0 with local.every, got 600"),
        ("--model-parallel 2", "model_parallel: expected 1 with local.every, got 2"),
        ("--local.every -1", "local.every: expected >= 0, got -1"),
        ("--local.lr -1", "local.lr: expected >= 0, got -1"),
        ("--local.momentum 1", "local.momentum: expected < 1, got 1.0"),
        ("--local.delay -1", "local.delay: expected >= 0, got -1"),
        ("--local.delay 8", "local.delay: expected less than local.every = 8, got 8"),
    ],
)
def test_what_makes_no_sense_together_is_refused_by_name(flags: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_from_flags("mnist-local", ["--local.every", "8", *flags.split()])
    assert said in str(caught.value)


def test_hessian_free_takes_no_local_steps() -> None:
    said = "local.every: algorithm hessian-free does not use it, got 8"
    with pytest.raises(UsageError, match=said):
        recipe_from_flags("mnist-hf-cg", ["--local.every", "8"])


def test_a_recipe_with_local_steps(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[local]\nevery = 16\ndelay = 4\nlr = 0.7\n")
    _, recipe = recipe_from_flags(str(tmp_path / "mine.toml"), [])
    assert recipe.local == LocalFields(every=16, delay=4, lr=0.7, momentum=0.5)
    assert recipe.method == "1-bit SGD, 16 local steps, 4 late"
    exact = replace(recipe, exchange=replace(recipe.exchange, code="float32"), local=ROUNDS)
    assert exact.method == "dense SGD, 4 local steps"


# --- training -------------------------------------------------------------------------------------


def by_hand(data: Path, folder: Path, fields: dict[str, Any]) -> tuple[list[str], str]:
    """A user's loop of one worker: the anchor after each epoch, and the model at the end."""
    torch.set_num_threads(THREADS)
    recipe = recipe_of(data, folder, **fields)
    job = prepare("tiny", recipe, lambda _: None)
    momentum = momentum_from_time_constant(100.0, recipe.minibatch)
    inner = torch.optim.SGD(job.model.parameters(), recipe.optimizer.lr, momentum)
    rounds = {name: getattr(recipe.local, name) for name in ("every", "lr", "momentum", "delay")}
    optimizer = LocalSteps(
        inner, job.model.named_parameters(), **rounds, start_steps=3, bucket_mb=0.02
    )
    sampler = MinibatchSampler(len(job.dataset.train), recipe.minibatch, recipe.seed)
    schedule = torch.optim.lr_scheduler.ExponentialLR(inner, recipe.optimizer.lr_decay)
    anchors = []
    while sampler.epoch < recipe.epochs:
        share = sampler.next_minibatch()
        optimizer.zero_grad()
        optimizer.samples = len(share)
        inputs, targets = job.dataset.train.batch(share)
        F.cross_entropy(job.model(inputs), targets).backward()
        optimizer.step()
        if sampler.position == 0:
            schedule.step()
            anchors.append(fingerprint(optimizer.anchor))
    optimizer.end_round()
    optimizer.close()
    return anchors, fingerprint(job.model.state_dict())


@pytest.mark.parametrize("local", [ROUNDS, LATE, LocalFields(every=1)], ids=str)
def test_a_run_is_a_users_loop(idx_folder: Path, tmp_path: Path, local: LocalFields) -> None:
    """Evaluations take the anchor, in the middle of a round too; the run ends with its round."""
    fields = {**FIELDS, "local": local, "minibatch": 77}
    summary, _, _ = run_once(0, 1, idx_folder, tmp_path / "run", None, fields)
    assert summary is not None
    anchors, end = by_hand(idx_folder, tmp_path / "hand", fields)
    run = load_run(tmp_path / "run")
    assert [event["params_sha256"] for event in run.epochs] == anchors
    assert summary["params_sha256"] == end
    assert summary["replicas_identical"] is True
    assert [event["lr"] for event in run.steps] == [0.02] * 2 + [0.01] * 2
    assert run.steps[-1]["residual_ratio"] is not None, "of the last round"
    assert summary["method"] == recipe_of(idx_folder, tmp_path, **fields).method


def test_evaluating_and_storing_change_nothing(idx_folder: Path, tmp_path: Path) -> None:
    often = {"evaluate_every": 0.1, "checkpoint_every": 0.0}
    fields = {**FIELDS, "local": LATE}
    one, other = (
        run_once(0, 1, idx_folder, tmp_path / name, None, {**fields, **more})[0]
        for name, more in (("a", {}), ("b", often))
    )
    assert one is not None
    assert other is not None
    assert one["params_sha256"] == other["params_sha256"]
    assert len(load_run(tmp_path / "b").epochs) == 20


def test_held_out_samples_lower_the_workers_own_learning_rate(
    idx_folder: Path, tmp_path: Path
) -> None:
    decay = DecayFields(held_out=60, threshold=1.0, give_up=100)  # nothing is ever better
    fields = {**FIELDS, "decay": decay, "optimizer": {"lr_decay": 1.0}, "epochs": 4}
    run_once(0, 1, idx_folder, tmp_path, 22, fields)
    summary, _, _ = run_once(0, 1, idx_folder, tmp_path, None, fields)
    assert summary is not None
    rates = [event["lr"] for event in load_run(tmp_path).steps]
    assert (rates[0], rates[-1]) == (0.02, 0.005), "lowered twice before the last step is told"


@pytest.mark.parametrize("delay", [0, 2])
def test_a_round_that_is_not_finite_is_told(idx_folder: Path, tmp_path: Path, delay: int) -> None:
    """Steps 4 to 7 are the first whole round; the last one ends with the run."""
    fields = {**FIELDS, "local": LocalFields(every=4, delay=delay)}
    job = prepare("tiny", recipe_of(idx_folder, tmp_path, **fields), lambda _: None)
    calls = itertools.count(1)

    def spoil(gradient: Tensor) -> Tensor:
        return gradient * (torch.nan if next(calls) in (5, 20) else 1)

    next(iter(job.model.parameters())).register_hook(spoil)
    summary = train(job, Display(1, None), None, Plan(anew=True))
    assert summary is not None
    assert [event["step"] for event in load_run(tmp_path).skips] == [7 + delay, 20]
    assert summary["skipped_steps"] == 2
    assert torch.tensor(summary["test_loss"]).isfinite()


# --- stored and taken up again --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("world", "local"),
    [(1, ROUNDS), (2, LATE), pytest.param(3, ROUNDS, marks=pytest.mark.slow)],
    ids=str,
)
def test_a_run_stopped_again_and_again_is_the_same_run(
    run_ranks: RunRanks, idx_folder: Path, tmp_path: Path, world: int, local: LocalFields
) -> None:
    """In the start, in the middle of rounds, at their ends, and with a round in flight."""
    fields = {**FIELDS, "local": local, "minibatch": 61}
    straight = run_ranks(world, run_once, idx_folder, tmp_path / "a", None, fields)[0][0]
    for _ in range(5):
        results = run_ranks(world, run_once, idx_folder, tmp_path / "b", 2, fields)
        assert {agreed for _, agreed, _ in results} == {signal.SIGTERM}
    resumed = run_ranks(world, run_once, idx_folder, tmp_path / "b", None, fields)[0][0]
    assert figures(resumed) == figures(straight)
    assert resumed["replicas_identical"] is True


def test_a_finished_run_goes_on_as_if_it_had_not_ended(idx_folder: Path, tmp_path: Path) -> None:
    """The checkpoint of its last step is in the middle of the round that its end brought on."""
    for epochs in (1, 2):
        fields = {**FIELDS, "epochs": epochs}
        summary, _, _ = run_once(0, 1, idx_folder, tmp_path / "run", None, fields)
    straight, _, _ = run_once(0, 1, idx_folder, tmp_path / "straight", None, FIELDS)
    assert summary is not None
    assert straight is not None
    assert summary["params_sha256"] == straight["params_sha256"]


def carried(rank: int, world: int, data: Path, folder: Path, local: LocalFields) -> dict[str, Any]:
    """What this worker holds of the run's checkpoint: its residual and what it has moved since."""
    job = prepare("tiny", recipe_of(data, folder, **{**FIELDS, "local": local}), lambda _: None)
    checkpoint = make_plan(job).checkpoint
    assert checkpoint is not None
    training = MinibatchState(job, world)
    training.restore(checkpoint, rank, world)
    tensors, facts = training.own()
    samples, found = facts["optimizer"]["moved_samples"], []
    anchor = {f"optimizer/{n}.anchor": a for n, a in training.optimizer.anchor.items()}
    for name, value in anchor.items():
        kind = name.removesuffix("anchor")
        begun = tensors.get(f"{kind}sent", value).double()
        found.append(tensors[f"{kind}residual"] + samples * (begun - tensors[f"{kind}local"]))
    training.optimizer.close()
    return {
        "carried": torch.cat([f.reshape(-1) for f in found]),
        "inner": {n: t.clone() for n, t in tensors.items() if n.startswith("inner/")},
        "lr": training.optimizer.param_groups[0]["lr"],
        "steps_in_round": training.optimizer.steps_in_round,
        "bytes": training.optimizer.ledger.total().bytes,
    }


@pytest.mark.slow
@pytest.mark.parametrize("local", [ROUNDS, LATE], ids=str)
def test_a_run_goes_on_with_other_numbers_of_workers(
    run_ranks: RunRanks, idx_folder: Path, tmp_path: Path, local: LocalFields
) -> None:
    """2 -> 3 -> 1, in the middle of a round: nothing that workers have moved is lost."""
    folder, fields = tmp_path / "run", {**FIELDS, "local": local}
    for world, following in ((2, 3), (3, 1)):
        assert run_ranks(world, run_once, idx_folder, folder, 4, fields)[0][1] == signal.SIGTERM
        before = run_ranks(world, carried, idx_folder, folder, local)
        after = run_ranks(following, carried, idx_folder, folder, local)
        assert len({w["steps_in_round"] for w in (*before, *after)}) == 1
        assert before[0]["steps_in_round"] > 0
        one, other = (sum(w["carried"] for w in side) for side in (before, after))
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(one.abs().max()))
        assert sum(w["bytes"] for w in before) == sum(w["bytes"] for w in after)
        for rank, worker in enumerate(after):
            assert worker["lr"] == before[0]["lr"]
            for name, value in before[rank % world]["inner"].items():
                assert torch.equal(worker["inner"][name], value)
    summary, _, _ = run_ranks(1, run_once, idx_folder, folder, None, fields)[0]
    assert summary["steps"] == 20


# --- checkpoints of the wrong form ----------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that stopped in the middle of a round."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    run_once(0, 1, idx_folder, folder, 8, FIELDS)
    return folder


def in_run(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda facts: facts["run"].update(values)


def in_group(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda facts: facts["run"]["param_groups"][0].update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda facts: facts["run"].pop("inner_lr"), "run.inner_lr: expected a number of at most"),
        (in_run(inner_lr=0.3), "run.inner_lr: expected a number of at most 0.02, got 0.3"),
        (in_run(inner_lr="x"), "run.inner_lr: expected float, got str"),
        (in_group(lr=0.7), "run.param_groups.lr: expected 1.0, as the recipe has it, got 0.7"),
        (in_group(momentum=0.1), "run.param_groups.momentum: expected 0.5, as the recipe has it"),
        (in_group(maximize=True), "run.param_groups.maximize: expected False, as the recipe has"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_recipe_fixes_is_not_taken_from_a_checkpoint(
    idx_folder: Path, stopped: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    path, job = checkpoints_in(stopped)[0], prepared(idx_folder, stopped)
    assert make_plan(job).checkpoint is not None
    before = (path / MANIFEST).read_bytes()
    facts = json.loads(before)
    del facts["sha256"], facts["schema"]
    change(facts)
    write_manifest(path, facts, facts.pop("files"))
    with pytest.raises(ValueError, match=re.escape(said)):
        make_plan(job)
    (path / MANIFEST).write_bytes(before)


def prepared(data: Path, folder: Path) -> Any:
    return prepare("tiny", recipe_of(data, folder, **FIELDS), lambda _: None)


def test_another_round_is_another_run(idx_folder: Path, stopped: Path) -> None:
    other = recipe_of(idx_folder, stopped, **{**FIELDS, "local": LocalFields(every=8)})
    with pytest.raises(ValueError, match=r"local\.every was 4, now it is 8"):
        make_plan(prepare("tiny", other, lambda _: None))
