"""Checkpoints with right digests and a wrong form are refused before anything is restored."""

import contextlib
import copy
import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from thinwire.train import Display, Job, Plan, Recipe, prepare, train
from thinwire.train import manifest as forms
from thinwire.train.checkpoint import (
    StoredTensors,
    checkpoints_in,
    open_checkpoint,
    worker_file,
    write_manifest,
    write_tensors,
)
from thinwire.train.fields import LocalFields
from thinwire.train.loop import begin_training
from thinwire.train.recipe import ExchangeFields, ModelFields
from thinwire.train.resume import check_fits

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def job(idx_folder: Path, tmp_path: Path) -> Job:
    """A run that is done, double-buffered, so that there is an update in flight."""
    return done(idx_folder, tmp_path / "run", exchange=ExchangeFields(double_buffer=True))


@pytest.fixture
def job_in_rounds(idx_folder: Path, tmp_path: Path) -> Job:
    """A run of local steps whose second round was in flight when its sixth step was stored."""
    return done(idx_folder, tmp_path / "run", local=LocalFields(every=3, delay=2))


def done(data: Path, folder: Path, **fields: Any) -> Job:
    recipe = Recipe(
        data=data,  # type: ignore[arg-type]
        out=folder,
        epochs=1,
        minibatch=100,
        model=ModelFields(hidden=(3,)),
        **fields,
    )
    made = prepare("tiny", recipe, lambda _: None)
    train(made, Display(1, None), None, Plan(anew=True))
    return made


def set_at(*way: Any, value: Any) -> Change:
    def change(facts: dict[str, Any]) -> None:
        for key in way[:-1]:
            facts = facts[key]
        facts[way[-1]] = value

    return change


def without(*way: Any) -> Change:
    def change(facts: dict[str, Any]) -> None:
        for key in way[:-1]:
            facts = facts[key]
        del facts[way[-1]]

    return change


GROUP = ("run", "param_groups", 0)
OF_RUN: list[tuple[Change, str]] = [
    (
        set_at(*GROUP, "code", value=None),
        "code: expected sign, as the recipe has it, got None",
    ),
    (set_at(*GROUP, "code", value=4), "code: expected"),
    (
        set_at(*GROUP, "code", value=["sign", "4-bit"]),
        "code: expected sign, as the recipe has it, got [",
    ),
    (without(*GROUP, "code"), "run.param_groups.code: expected sign"),
    (without(*GROUP, "momentum"), "run.param_groups.momentum: expected 0"),
    (without(*GROUP, "adagrad"), "run.param_groups.adagrad: expected none"),
    (
        set_at(*GROUP, "lr", value=9.0),
        "lr: expected a number of at most 0.2, got 9.0",
    ),
    (
        lambda facts: facts["run"]["param_groups"][0]["param_names"].reverse(),
        "run.param_groups: expected the model's parameters, each once, in order",
    ),
    (set_at("run", "depth", value=None), "run.depth: expected int, got null"),
    (set_at("run", "depth", value=0), "run.depth: expected 1 to 1, got 0"),
    (set_at("run", "decay", value=None), "run.decay: expected object, got null"),
    (set_at("run", "scheduler", "step", value=1), "run.scheduler: object contains unknown field"),
    (
        set_at("recipe", "a\nb", value=1),
        "manifest.json: key in $.recipe: expected a printable name",
    ),
]
COUNTS = ("optimizer",)
OF_WORKER: list[tuple[Change, str]] = [
    (without(*COUNTS, "kept"), "kept"),
    (set_at(*COUNTS, "kept", value=[]), "optimizer.kept: expected 4 entries, got 0"),
    (set_at(*COUNTS, "kept", value=[["x"]] * 4), "0.weight.x: expected a tensor, got none"),
    (set_at(*COUNTS, "sequences", value=[1, "a", 1, 1]), "optimizer.sequences[1]: expected int"),
    (set_at(*COUNTS, "scalars", value=[1] * 4), "optimizer.scalars[0]: expected object"),
    (set_at("steady_from", "x", value=1), "steady_from: object contains unknown field x"),
    (set_at(*COUNTS, "rank", value=1), "optimizer.rank: expected 0, got 1"),
    (set_at(*COUNTS, "world", value=2), "optimizer.world: expected 1, got 2"),
    (set_at(*COUNTS, "model_world", value=2), "optimizer.model_world: expected 1, got 2"),
    (set_at(*COUNTS, "phase", value="late"), "optimizer.phase: expected str matching regex"),
    (set_at(*COUNTS, "axis", value="input"), "optimizer.axis: expected output, got input"),
    (set_at(*COUNTS, "pending", value={"phase": "steady", "samples": 1}), "nonfinite"),
    (without("owned", "2.bias"), "owned.2.bias: expected owners of 10 values, got 0"),
    (set_at("owned", "2.bias", value=[5, 10]), "expected a floating-point tensor of shape [5]"),
    (set_at("owned", "2.bias", value=[0, 11]), "owned.2.bias: expected a run in 0..10, got 0..11"),
    (set_at("owned", "other", value=[0, 1]), "owned.other: expected a run in 0..0, got 0..1"),
]


def change_checkpoint(
    job: Job, of_run: Change, of_worker: Change, of_tensors: Change | None = None
) -> Path:
    folder = checkpoints_in(job.folder)[0]
    facts = copy.deepcopy(open_checkpoint(folder).facts)
    of_run(facts)
    file = StoredTensors(folder / worker_file(0))
    stored, tensors = copy.deepcopy(file.facts), {name: file[name].clone() for name in file}
    of_worker(stored)
    (of_tensors or same)(tensors)
    del file
    measured = write_tensors(folder / worker_file(0), tensors, stored)
    facts.pop("schema", None)
    write_manifest(folder, facts, {**facts.pop("files"), worker_file(0): measured})
    return folder


def same(_: dict[str, Any]) -> None:
    """Change nothing."""


@pytest.mark.parametrize(
    ("of_run", "of_worker", "said"),
    [
        *((change, same, said) for change, said in OF_RUN),
        *((same, change, said) for change, said in OF_WORKER),
    ],
    ids=[said for _, said in (*OF_RUN, *OF_WORKER)],
)
def test_a_wrong_form_is_refused_in_one_line(
    job: Job, of_run: Change, of_worker: Change, said: str
) -> None:
    folder = change_checkpoint(job, of_run, of_worker)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        check_fits(open_checkpoint(folder), job)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("of_worker", "of_tensors", "said"),
    [
        (without(*COUNTS, "steps_in_round"), None, "optimizer.steps_in_round: expected a number"),
        (set_at(*COUNTS, "moved_samples", value=-1), None, "optimizer.moved_samples: expected"),
        *(
            (None, without(name), f"{name}: expected a tensor, got none")
            for name in (f"optimizer/0.weight.{kind}" for kind in ("anchor", "local", "sent"))
        ),
        (
            None,
            set_at("optimizer/2.bias.local", value=torch.zeros(3)),
            "optimizer/2.bias.local: expected a floating-point tensor of shape [10]",
        ),
        (
            None,
            set_at("inner/2.bias.momentum_buffer", value=torch.zeros(3)),
            "inner/2.bias.momentum_buffer: expected a floating-point tensor of shape [10]",
        ),
        (None, set_at("inner/x.step", value=torch.zeros(1)), "the model has no parameter 'x'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_round_of_a_wrong_form_is_refused_in_one_line(
    job_in_rounds: Job, of_worker: Change | None, of_tensors: Change | None, said: str
) -> None:
    check_fits(open_checkpoint(checkpoints_in(job_in_rounds.folder)[0]), job_in_rounds)
    folder = change_checkpoint(job_in_rounds, same, of_worker or same, of_tensors)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        check_fits(open_checkpoint(folder), job_in_rounds)
    assert len(str(caught.value).splitlines()) == 1


def test_what_a_former_version_did_not_store_may_be_missing(job: Job) -> None:
    def of_run(facts: dict[str, Any]) -> None:
        for name in ("steady_steps", "dense_bytes", "steady_dense_bytes", "trials"):
            del facts["run"]["counts"][name]
        for name in ("decay", "selection", "depth"):
            del facts["run"][name]

    folder = change_checkpoint(job, of_run, same)
    checkpoint = open_checkpoint(folder)
    check_fits(checkpoint, job)
    with contextlib.closing(begin_training(job, 1)) as training:
        training.state.restore(checkpoint, 0, 1)
        assert training.state.twin.steady_steps == 0


@pytest.mark.parametrize("form", ["Manifest", "SgdFacts", "HessianFreeFacts"])
def test_forms_outlive_the_garbage_collector(form: str) -> None:
    """msgspec 0.22 crashes here for a tuple beside a text with a bound."""
    for _ in range(8):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({}, getattr(forms, form), strict=True)
        gc.collect()
