"""Every task passes the same tests; runs of regression, and of samples that stay on disk."""

import hashlib
import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import RunRanks
from tests.train import test_hessian_free as hessian_free
from tests.train import test_resume as minibatches
from thinwire.curvature.output_hessian import by_differentiation, output_hessian
from thinwire.data import Dataset, DataSource, TensorSource, largest_class
from thinwire.optim import Objective
from thinwire.report import load_run, page_html, price_rows, render, table_rows
from thinwire.train import Recipe, prepare
from thinwire.train.checkpoint import Checkpoint
from thinwire.train.decay import Decay
from thinwire.train.fields import DecayFields, SelectionFields
from thinwire.train.objective import objective_of
from thinwire.train.prepare import normalise
from thinwire.train.resume import check_fits, identity
from thinwire.train.tasks import (
    TASKS,
    Classification,
    Metric,
    Regression,
    Task,
    build_task,
    register_task,
)

FEATURES, OUTPUTS = 8, 2
LOSS_DOWN = Metric("cost", "cost")


def samples(size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs and two targets that are smooth functions of them, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, FEATURES, generator=generator)
    clean = torch.stack([inputs[:, :3].sum(1), inputs[:, 3] * inputs[:, 4]], 1)
    return inputs, clean + 0.1 * torch.randn(size, OUTPUTS, generator=generator)


def in_memory() -> tuple[DataSource, DataSource]:
    """What a user's function may return as well."""
    return TensorSource(*samples(600, 0)), TensorSource(*samples(200, 1))


def class_targets(size: int) -> Tensor:
    return torch.randint(0, OUTPUTS, (size,), generator=torch.Generator().manual_seed(size))


def number_targets(size: int) -> Tensor:
    return samples(size, size)[1]


def error_and_accuracy(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    wrong = sum(int(row.argmax() != t) for row, t in zip(outputs, targets, strict=True))
    return {"error": wrong / len(targets), "accuracy": 1 - wrong / len(targets)}


def errors_and_r2(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    deviation = outputs.double() - targets.double()
    spread = targets.double() - targets.double().mean(0)
    r2 = 1 - deviation.square().sum() / spread.square().sum()
    mse, mae = deviation.square().mean(), deviation.abs().mean()
    return {"mse": float(mse), "mae": float(mae), "r2": float(r2)}


CASES: dict[str, tuple[Task, Callable[[int], Tensor], Callable[..., dict[str, float]]]] = {
    "classification": (Classification(OUTPUTS), class_targets, error_and_accuracy),
    "regression": (Regression(OUTPUTS), number_targets, errors_and_r2),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("parts", [[40], [1, 39], [13, 0, 13, 14]])
def test_metrics_are_made_of_sums(name: str, parts: list[int]) -> None:
    task, make, reference = CASES[name]
    targets = make(40)
    outputs = torch.randn(40, OUTPUTS, generator=torch.Generator().manual_seed(5))
    sums = torch.zeros(task.sums, dtype=torch.float64)
    for some, wanted in zip(outputs.split(parts), targets.split(parts), strict=True):
        found = task.measure(some, task.convert(wanted))
        assert (found.dtype, tuple(found.shape)) == (torch.float64, (task.sums,))
        sums += found
    assert task.scores(sums, 40) == pytest.approx(reference(outputs, targets), rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_what_a_model_lacks_is_none(name: str) -> None:
    task, make, _ = CASES[name]
    targets = task.convert(make(6))
    for outputs in (torch.zeros(6, OUTPUTS + 1), [torch.zeros(6, OUTPUTS)]):
        scores = task.scores(task.measure(outputs, targets), 6)
        assert set(scores.values()) == {None}


@pytest.mark.parametrize("name", CASES)
def test_names_are_those_of_the_scores(name: str) -> None:
    task, make, _ = CASES[name]
    outputs = torch.zeros(6, OUTPUTS)
    scores = task.scores(task.measure(outputs, task.convert(make(6))), 6)
    assert set(scores) == {*(metric.name for metric in task.metrics), task.decides.name}


@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_a_mean_whose_output_hessian_is_known(name: str) -> None:
    task, make, _ = CASES[name]
    targets = task.convert(make(6))
    outputs = torch.randn(6, OUTPUTS, generator=torch.Generator().manual_seed(1)).requires_grad_()
    twice = task.loss(torch.cat([outputs, outputs]), torch.cat([targets, targets]))
    assert twice.item() == pytest.approx(task.loss(outputs, targets).item(), rel=1e-6)
    u = torch.randn(6, OUTPUTS, generator=torch.Generator().manual_seed(2))
    known = output_hessian(task.loss, outputs, targets)(u)
    found = by_differentiation(task.loss(outputs, targets), outputs)(u)
    torch.testing.assert_close(known, found)


def test_r2_of_equal_targets_is_none() -> None:
    task = Regression(1)
    sums = task.measure(torch.zeros(5, 1), torch.full((5, 1), 0.1))
    assert task.scores(sums, 5)["r2"] is None


def dataset_of(targets: Tensor, test: Tensor | None = None, **fields: Any) -> Dataset:
    train = TensorSource(torch.zeros(len(targets), 1), targets)
    other = targets if test is None else test
    source = TensorSource(torch.zeros(len(other), 1), other)
    return Dataset(train, source, fields.pop("classes", None), "made", **fields)


@pytest.mark.parametrize(
    ("name", "dataset", "message"),
    [
        ("classification", dataset_of(torch.rand(3)), "one class number for each sample"),
        ("classification", dataset_of(torch.ones(3, 2).long()), "one class number for each"),
        ("classification", dataset_of(torch.tensor([0, -1])), "got -1 .* class numbers >= 0"),
        (
            "classification",
            dataset_of(torch.tensor([0, 1]), torch.tensor([2])),
            "class number 2 in the test samples, expected less than 2",
        ),
        (
            "classification",
            dataset_of(torch.tensor([0, 5]), classes=3),
            "class number 5 in the training samples, expected less than 3",
        ),
        ("regression", dataset_of(torch.tensor([0, 1]), labels=("a", "b")), r"got words \(a, b\)"),
        ("regression", dataset_of(torch.zeros(2, 3, 4)), r"got shapes \[\[3, 4\]\]"),
        ("regression", dataset_of(torch.zeros(2), torch.zeros(2, 2)), r"shapes \[\[\], \[2\]\]"),
    ],
)
def test_targets_that_do_not_fit(name: str, dataset: Dataset, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_task(name, dataset)


def test_classes_are_those_of_the_training_samples() -> None:
    task, dataset = build_task("classification", dataset_of(torch.tensor([0, 3, 1])))
    assert (task.outputs, dataset.classes) == (4, 4)
    assert largest_class(dataset.train) == 3


class Quantile:
    """The task of docs/data.md: the ninth decile of one number."""

    decides = Metric("pinball", "pinball loss")
    metrics = (decides,)
    outputs = sums = 1

    @staticmethod
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        below = targets - outputs
        return torch.maximum(0.9 * below, -0.1 * below).mean()

    def convert(self, targets: Tensor) -> Tensor:
        return targets[:, :1].float()

    def measure(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(outputs, targets).double()[None] * len(targets)

    def scores(self, sums: Tensor, samples: float) -> dict[str, float | None]:
        return {"pinball": (sums / samples).item()}


def quantile(dataset: Dataset) -> tuple[Task, Dataset]:
    return Quantile(), dataset


def test_a_run_of_a_task_of_ones_own(folder: Path, tmp_path: Path) -> None:
    """Held-out samples and the choice of a minibatch size go by its metric, downwards."""
    fields: dict[str, Any] = {
        "task": f"{__name__}:quantile",
        "epochs": 6,
        "minibatch": 16,
        "exchange": {"start_samples": 0},
        "optimizer": {"lr_decay": 1.0},
        "selection": SelectionFields(every=600, trial=256, largest=32),
        "decay": DecayFields(held_out=60),
    }
    summary = minibatches.run_once(0, 1, folder, tmp_path, None, fields)[0]
    assert summary is not None
    assert summary["test_pinball"] == pytest.approx(summary["test_loss"], rel=1e-12)
    run = load_run(tmp_path)
    assert run.held_out
    for selection in run.selections:
        tried = dict(zip(selection["sizes"], selection["pinball_values"], strict=True))
        good = [size for size, value in tried.items() if value <= min(tried.values()) + 0.005]
        assert selection["minibatch"] == max(good)
    assert run.selections
    assert "pinball loss" in page_html([run])


def own_task(dataset: Dataset) -> tuple[Task, Dataset]:
    """A user's: what decides is the absolute error, of which less is better."""
    return replace(Regression(OUTPUTS), decides=Regression(OUTPUTS).metrics[1]), dataset


def test_a_task_of_ones_own_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinwire.train.tasks.registry.TASKS", TASKS)
    task, _ = build_task(f"{__name__}:own_task", dataset_of(torch.zeros(2, OUTPUTS)))
    assert task.decides.name == "mae"
    with pytest.raises(ValueError, match="did you mean 'regression'"):
        Recipe(task="regresion")
    with pytest.raises(ValueError, match="expected one that no task has"):
        register_task("regression", own_task)
    register_task("own", own_task)
    try:
        assert Recipe(task="own").task == "own"
    finally:
        del TASKS["own"]


@pytest.mark.parametrize("direction", [1, -1])
def test_decay_goes_by_the_metric_s_direction(direction: int) -> None:
    metric = replace(LOSS_DOWN, higher_is_better=direction > 0)
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    decay = Decay(sgd, DecayFields(held_out=1, threshold=0.1), metric)
    rates = []
    for value in (1.0, 2.0, 2.05, 3.0):  # better, better, not by enough, better
        told = decay.note(direction * value)
        assert told[0].fields["cost"] == direction * value
        rates.append(sgd.param_groups[0]["lr"])
    assert rates == [1.0, 1.0, 0.5, 0.5]
    again = Decay(sgd, DecayFields(held_out=1, threshold=0.1), metric)
    again.load_state_dict(decay.state_dict())
    assert again.state_dict() == decay.state_dict()
    fresh = Decay(sgd, DecayFields(), metric)
    fresh.load_state_dict(Decay(sgd, DecayFields(), metric).state_dict())
    assert fresh.note(-1e9 * direction)[0].fields["best"] == -1e9 * direction, "the first is best"


SGD: dict[str, Any] = {"task": "regression", "exchange": {"start": "float32"}}
FUNCTION = Path(f"{__name__}:in_memory")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples of `in_memory` in .npy files, which stay on disk."""
    made = tmp_path_factory.mktemp("arrays")
    for name, (inputs, targets) in (("", samples(600, 0)), ("test_", samples(200, 1))):
        np.save(made / f"{name}inputs.npy", inputs.numpy())
        np.save(made / f"{name}targets.npy", targets.numpy())
    return made


def test_samples_on_disk_give_the_same_bits_and_go_on_with_other_workers(
    run_ranks: RunRanks, folder: Path, tmp_path: Path
) -> None:
    """2 workers, stopped in an epoch, then 3: as samples in memory, to the last bit."""
    found = []
    for name, data in (("disk", folder), ("memory", FUNCTION)):
        out = tmp_path / name
        first = run_ranks(2, minibatches.run_once, data, out, 12, SGD)
        assert {agreed for _, agreed, _ in first} == {signal.SIGTERM}
        summary, _, said = run_ranks(3, minibatches.run_once, data, out, None, SGD)[0]
        assert "step 13, written by 2 workers" in said
        assert summary["samples"] == 2 * 600
        found.append(summary)
    same = ("params_sha256", "train_loss", "test_mse", "test_mae", "test_r2")
    assert [found[0][key] for key in same] == [found[1][key] for key in same]
    assert found[0]["test_r2"] > 0


def test_samples_on_disk_resume_exactly(folder: Path, tmp_path: Path) -> None:
    straight = minibatches.run_once(0, 1, folder, tmp_path / "one", None, SGD)[0]
    stopped = tmp_path / "stopped"
    assert minibatches.run_once(0, 1, folder, stopped, 12, SGD)[1] == signal.SIGTERM
    resumed = minibatches.run_once(0, 1, folder, stopped, None, SGD)[0]
    assert straight is not None
    assert resumed is not None
    assert minibatches.figures(resumed) == minibatches.figures(straight)


def test_reports_go_by_the_metrics_a_run_names(folder: Path, tmp_path: Path) -> None:
    fields = {**SGD, "evaluate_every": 0.5, "decay": DecayFields(held_out=60)}
    fields["optimizer"] = {"lr_decay": 1.0}
    summary = minibatches.run_once(0, 1, folder, tmp_path / "r", None, fields)[0]
    assert summary is not None
    assert {"train_mse", "test_mae", "test_r2"} <= set(summary)
    run = load_run(tmp_path / "r")
    assert [metric.key for metric in run.metrics] == ["mse", "mae", "r2"]
    assert (run.decides.key, run.decides.higher_is_better) == ("r2", True)
    assert all(math.isfinite(event["r2"]) for event in (*run.steps, *run.held_out))
    (row,) = table_rows([run])
    assert row["best_test_r2"] == pytest.approx(max(e["test_r2"] for e in run.epochs), abs=1e-8)
    assert row["best_test_mse"] == pytest.approx(min(e["test_mse"] for e in run.epochs), abs=1e-8)
    reached = {row["train_r2"]: row["iterations"] for row in price_rows([run])}
    first = next((e["step"] for e in run.epochs if e["train_r2"] >= 0.5), None)
    assert reached[0.5] == first
    for text in (page_html([run]), render([run], "md")):
        assert "To reach a training R²" in text
        assert "test error" not in text


@pytest.mark.parametrize("curvature", ["replicated", "sharded"])
def test_hessian_free_regression_is_the_same_run_on_two_workers(
    run_ranks: RunRanks, folder: Path, tmp_path: Path, curvature: str
) -> None:
    fields = {"curvature": curvature, "task": "regression"}
    losses = []
    for world in (1, 2):
        out = tmp_path / str(world)
        summary = run_ranks(world, hessian_free.run_once, folder, out, None, fields)[0][0]
        losses.append(summary["train_loss"])
        steps = load_run(out).steps
        assert all(step["objective"] < step["loss_before"] for step in steps)
    # Sums in another order differ by a few units of 2^-24. Each of four damped solves multiplies a
    # difference by at most the condition it leaves, about 1e3 at four iterations.
    assert losses[1] == pytest.approx(losses[0], rel=4 * 1e3 * 2**-24)


def test_an_objective_reads_from_disk_what_it_reads_from_memory(folder: Path) -> None:
    recipe = Recipe(data=folder, task="regression", out=folder / "run")  # type: ignore[arg-type]
    job = prepare("tiny", recipe, lambda _: None)
    lazily = objective_of(job.model, job.loss, job.dataset.train)
    inputs, targets = job.dataset.train.batch(torch.arange(600))
    at_once = Objective(job.model, job.loss, (inputs, targets))
    for numbers in (range(5, 300), torch.tensor([7, 3, 599])):
        for one, other in zip(lazily.rows(numbers), at_once.rows(numbers), strict=True):
            assert torch.equal(one, other)


def test_integers_are_not_normalised() -> None:
    tokens = TensorSource(torch.arange(12).reshape(4, 3), torch.arange(4))
    dataset, found = normalise(Dataset(tokens, tokens, 4, "tokens"), "all")
    assert dataset.train.batch(torch.arange(2))[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found.mean.item(), found.scale.item()) == (0, 1)


def test_a_former_version_s_checkpoint_tells_the_data_by_its_targets(
    idx_folder: Path, tmp_path: Path
) -> None:
    """Written by hand as version 0.1.0 wrote it."""
    job = prepare("tiny", minibatches.recipe_of(idx_folder, tmp_path), lambda _: None)
    targets = job.dataset.train.targets_of(torch.arange(600)).numpy()
    before = f"{idx_folder.name} {hashlib.sha256(targets.tobytes()).hexdigest()[:16]}"
    sampler = {"epoch": 0, "position": 60, "size": 600, "seed": 0, "minibatch": 60}
    counts = {"counts": {"steps": 1}, "sampler": sampler}
    facts = {**identity(job), "data": before, "run": counts}
    facts["recipe"] = {
        key: value for key, value in facts["recipe"].items() if not key.startswith("data.")
    }
    del facts["recipe"]["task"]
    with pytest.raises(ValueError, match=r"run.scheduler: expected"):  # the data have passed
        check_fits(Checkpoint(tmp_path, facts), job)
    with pytest.raises(ValueError, match="the training data were"):
        check_fits(Checkpoint(tmp_path, {**facts, "data": before[:-1] + "?"}), job)
