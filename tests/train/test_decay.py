"""The learning rate, lowered where held-out accuracy stops improving."""

import copy
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.train.test_resume import figures, recipe_of, run_once
from thinwire.data import Dataset, TensorSource, hold_out
from thinwire.report import load_run
from thinwire.train import Recipe, prepare
from thinwire.train.decay import Decay
from thinwire.train.fields import DecayFields, OptimizerFields
from thinwire.train.recipe_files import to_toml
from thinwire.train.tasks.classification import ACCURACY

accuracies = st.lists(st.integers(0, 20).map(lambda n: n / 20), max_size=30)
settings = st.builds(
    DecayFields,
    factor=st.sampled_from([0.5, 0.25]),
    threshold=st.sampled_from([0.0, 0.06]),
    patience=st.integers(0, 2),
    give_up=st.integers(0, 2),
)


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def recurrence(measured: list[float], fields: DecayFields) -> list[tuple[float, bool]]:
    """(learning rate, whether training ends) after each measurement, written out."""
    best, lr, bad, fruitless, found = -math.inf, 1.0, 0, 0, []
    for accuracy in measured:
        if accuracy > best + fields.threshold:
            best, bad, fruitless = accuracy, 0, 0
        else:
            bad += 1
        if bad > fields.patience:
            lr, bad, fruitless = lr * fields.factor, 0, fruitless + 1
        found.append((lr, fruitless > fields.give_up))
    return found


@given(accuracies, settings)
def test_it_follows_the_recurrence(measured: list[float], fields: DecayFields) -> None:
    sgd = optimizer()
    decay = Decay(sgd, fields, ACCURACY)
    lr = 1.0
    for accuracy, (expected, ends) in zip(measured, recurrence(measured, fields), strict=True):
        told = decay.note(accuracy)
        assert (sgd.param_groups[0]["lr"], decay.ended) == (pytest.approx(expected, abs=2e-8), ends)
        assert [t.event for t in told] == ["held_out"] + ["decay"] * (expected < lr)
        if expected < lr:
            assert told[1].fields["ended"] == ends
        if ends:
            break
        lr = expected


@given(accuracies, accuracies, settings)
def test_it_goes_on_from_its_state(
    before: list[float], after: list[float], fields: DecayFields
) -> None:
    one, other = optimizer(), optimizer()
    straight, resumed = Decay(one, fields, ACCURACY), Decay(other, fields, ACCURACY)
    for accuracy in before:
        straight.note(accuracy)
    resumed.load_state_dict(copy.deepcopy(straight.state_dict()))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for accuracy in after:
        assert straight.note(accuracy) == resumed.note(accuracy)
        assert straight.state_dict() == resumed.state_dict()


def numbered(size: int) -> Dataset:
    train = TensorSource(torch.arange(float(size))[:, None], torch.arange(size))
    return Dataset(train, TensorSource(-train.inputs, train.targets), size, "numbered")


@given(st.integers(2, 300), st.data(), st.integers(0, 2**63 - 1))
def test_held_out_samples_are_not_trained_on(size: int, data: Any, seed: int) -> None:
    count = data.draw(st.integers(1, size - 1))
    dataset = hold_out(numbered(size), count, seed)
    assert dataset.held_out is not None
    assert len(dataset.held_out) == count
    parts = [
        source.batch(torch.arange(len(source))) for source in (dataset.train, dataset.held_out)
    ]
    together = torch.cat([targets for _, targets in parts])
    assert torch.equal(together.sort().values, torch.arange(size))
    for inputs, targets in parts:
        assert torch.equal(inputs[:, 0].long(), targets), "targets stay with inputs"
    assert len(dataset.test) == size
    again = hold_out(numbered(size), count, seed).held_out
    assert again is not None
    assert torch.equal(again.targets_of(torch.arange(count)), parts[1][1])


def test_other_seeds_hold_out_other_samples() -> None:
    one, other = (hold_out(numbered(1000), 100, seed).held_out for seed in (0, 1))
    assert one is not None
    assert other is not None
    all_of_them = torch.arange(100)
    assert not torch.equal(one.targets_of(all_of_them), other.targets_of(all_of_them))
    with pytest.raises(ValueError, match="held_out: expected 1 to 9 of 10 samples, got 10"):
        hold_out(numbered(10), 10, 0)


FIELDS: dict[str, Any] = {
    "epochs": 40,
    "optimizer": {"lr_decay": 1.0},
    "decay": DecayFields(held_out=120, give_up=1),
}


def test_a_run_ends_when_lowering_is_of_no_use_and_resumes_on_the_way(
    idx_folder: Path, tmp_path: Path
) -> None:
    straight = run_once(0, 1, idx_folder, tmp_path / "a", None, FIELDS)[0]
    assert straight is not None
    assert straight["passes"] < 40
    run = load_run(tmp_path / "a")
    assert run.start["train_samples"] == 480
    measured = [event["accuracy"] for event in run.held_out]
    assert len(measured) == len(run.epochs) == straight["passes"]
    expected = recurrence(measured, FIELDS["decay"])
    assert [ends for _, ends in expected] == [False] * (len(measured) - 1) + [True]
    assert [event["ended"] for event in run.decays][-1] is True
    rates = sorted({0.02 * rate for rate, _ in expected}, reverse=True)
    assert [event["lr"] for event in run.decays] == pytest.approx(rates[1:])
    resumed, stops = None, 0
    while resumed is None:
        resumed, agreed, _ = run_once(0, 1, idx_folder, tmp_path / "b", 12, FIELDS)
        stops += agreed == signal.SIGTERM
    assert stops > 2
    assert figures(resumed) == figures(straight)
    more, _, said = run_once(0, 1, idx_folder, tmp_path / "b", None, {**FIELDS, "epochs": 50})
    assert more is not None
    assert more["passes"] == straight["passes"]
    assert "held-out accuracy ended it there ([decay])" in said


def test_it_is_measured_within_epochs_too(idx_folder: Path, tmp_path: Path) -> None:
    fields = {**FIELDS, "epochs": 2, "evaluate_every": 0.5}
    assert run_once(0, 1, idx_folder, tmp_path, None, fields)[0] is not None
    run = load_run(tmp_path)
    assert [event["epoch"] for event in run.held_out] == [event["epoch"] for event in run.epochs]
    assert len(run.held_out) == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"held_out": -1}, "decay.held_out: expected >= 0, got -1"),
        ({"factor": 1.0}, r"decay.factor: expected in \(0, 1\), got 1\.0"),
        ({"threshold": math.nan}, "decay.threshold: expected >= 0, got nan"),
        ({"patience": -1}, "decay.patience: expected >= 0, got -1"),
        ({"give_up": -1}, "decay.give_up: expected >= 0, got -1"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecayFields(**fields)


def test_one_of_the_two_decays(idx_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lr_decay: expected 1 where decay.held_out is 9 .*0\.5"):
        Recipe(optimizer=OptimizerFields(lr_decay=0.5), decay=DecayFields(held_out=9))
    with pytest.raises(
        ValueError, match=r"decay\.held_out: algorithm hessian-free does not use it"
    ):
        Recipe(algorithm="hessian-free", decay=DecayFields(held_out=9))
    recipe = recipe_of(
        idx_folder, tmp_path, optimizer={"lr_decay": 1.0}, decay=DecayFields(held_out=600)
    )
    assert "held_out = 600" in to_toml(recipe)
    with pytest.raises(ValueError, match="held_out: expected 1 to 599 of 600 samples, got 600"):
        prepare("tiny", recipe, lambda _: None)
