"""The model's fields of a recipe: what is built, what is refused, what a run leaves behind."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.train import test_hessian_free as hessian_free
from tests.train import test_resume as minibatches
from thinwire.models import Normalisation, build_model
from thinwire.report import load_run, write_page
from thinwire.train import Recipe, prepare
from thinwire.train.fields import ModelFields
from thinwire.train.prepare import Job

NETWORKS = "tests.models.networks"


def job_of(data: Path, folder: Path, **fields: Any) -> Job:
    return prepare("tiny", Recipe(data=data, out=folder, model=ModelFields(**fields)), print)


def run(data: Path, folder: Path, stop: int | None = None, **fields: Any) -> dict[str, Any] | None:
    """One start of a run of one worker: minibatches of 60, or Hessian-free iterations."""
    algorithm = fields.pop("algorithm", "sgd")
    model = {"model": ModelFields(**fields)}
    if algorithm == "hessian-free":
        return hessian_free.run_once(0, 1, data, folder, stop, model)[0]
    faster = {**model, "optimizer": {"lr": 0.1}, "exchange": {"code": "float32"}}
    return minibatches.run_once(0, 1, data, folder, stop, faster)[0]


@pytest.fixture(scope="module")
def earlier(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of a 36-90-30-10 perceptron."""
    folder = tmp_path_factory.mktemp("earlier") / "run"
    assert run(idx_folder, folder, hidden=(90, 30)) is not None
    return folder


def test_the_run_folder_has_what_a_user_needs_to_apply_the_model(
    idx_folder: Path, tmp_path: Path
) -> None:
    summary = run(idx_folder, tmp_path, hidden=(20,), normalisation="feature")
    assert summary is not None
    raw = prepare("raw", Recipe(data=idx_folder, model=ModelFields(normalisation="none")), print)
    stored = safetensors.torch.load_file(tmp_path / "normalisation.safetensors")
    assert stored["mean"].shape == (36,)
    model = build_model(36, [20], 10, "relu", seed=0)
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    test = raw.dataset.test
    wrong = model(Normalisation(**stored)(test.inputs)).argmax(1) != test.targets
    assert wrong.double().mean().item() == pytest.approx(summary["test_error"])


def test_features_are_normalised_by_the_training_inputs(idx_folder: Path, tmp_path: Path) -> None:
    by_feature = job_of(idx_folder, tmp_path, normalisation="feature").dataset
    raw = job_of(idx_folder, tmp_path, normalisation="none").dataset
    mean, deviation = raw.train.inputs.mean(0), raw.train.inputs.std(0)
    for made, split in ((by_feature.train, raw.train), (by_feature.test, raw.test)):
        torch.testing.assert_close(
            made.inputs, (split.inputs - mean) / deviation, atol=1e-5, rtol=1e-5
        )


def test_a_run_starts_from_an_earlier_ones_weights(
    idx_folder: Path, earlier: Path, tmp_path: Path
) -> None:
    expected = safetensors.torch.load_file(earlier / "model.safetensors")
    for start in (earlier, earlier / "model.safetensors"):
        model = job_of(idx_folder, tmp_path, hidden=(90, 30), start=str(start)).model
        assert all(torch.equal(model.state_dict()[name], expected[name]) for name in expected)


@pytest.mark.parametrize("algorithm", ["sgd", "hessian-free"])
def test_low_rank_layers_are_made_of_an_earlier_run_and_trained_on(
    idx_folder: Path, earlier: Path, tmp_path: Path, algorithm: str
) -> None:
    fields = {"hidden": (90, 30), "start": str(earlier), "rank": 12}
    job = job_of(idx_folder, tmp_path, **fields)
    assert [tuple(p.shape) for p in job.model.parameters()] == [
        *((12, 36), (90, 12), (90,), (12, 90), (30, 12), (30,), (10, 30), (10,)),
    ]
    folder = tmp_path / "run"
    summary = run(idx_folder, folder, algorithm=algorithm, **fields)
    assert summary is not None
    assert summary["params"] == sum(p.numel() for p in job.model.parameters())
    assert summary["test_error"] < 0.2
    # Its own file has the pairs, and a third run takes them over.
    third = job_of(idx_folder, tmp_path, hidden=(90, 30), start=str(folder)).model
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    assert all(torch.equal(third.state_dict()[name], stored[name]) for name in stored)


def test_energy_decides_the_ranks(idx_folder: Path, earlier: Path, tmp_path: Path) -> None:
    model = job_of(idx_folder, tmp_path, hidden=(90, 30), start=str(earlier), energy=0.5).model
    weights = safetensors.torch.load_file(earlier / "model.safetensors")
    for layer in ("0", "2"):
        squares = torch.linalg.svdvals(weights[f"{layer}.weight"].double()).square()
        rank = model.get_submodule(layer)[0].out_features  # type: ignore[index]
        assert squares[: rank - 1].sum() < 0.5 * squares.sum() <= squares[:rank].sum()


@pytest.mark.parametrize("algorithm", ["sgd", "hessian-free"])
def test_a_network_of_ones_own_is_trained_by_either_algorithm(
    idx_folder: Path, tmp_path: Path, algorithm: str
) -> None:
    folder = tmp_path / "run"
    summary = run(idx_folder, folder, algorithm=algorithm, factory=f"{NETWORKS}:with_dropout")
    assert summary is not None
    assert summary["test_error"] < 0.5
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    assert [*stored] == ["0.bias", "0.weight", "3.bias", "3.weight"]


@pytest.mark.parametrize("algorithm", ["sgd", "hessian-free"])
def test_a_loss_without_classes_has_no_errors(
    idx_folder: Path, tmp_path: Path, algorithm: str
) -> None:
    """Outputs that are a pair, a weight under two names."""
    fields = {"factory": f"{NETWORKS}:autoencoder", "algorithm": algorithm}
    if algorithm == "hessian-free":
        with pytest.raises(ValueError, match=r"model.factory: Hessian-free .* one tensor"):
            run(idx_folder, tmp_path, **fields)
        return
    summary = run(idx_folder, tmp_path, **fields)
    assert summary is not None
    assert summary["train_error"] is summary["test_error"] is None
    found = load_run(tmp_path)
    assert found.epochs[-1]["train_loss"] < found.epochs[0]["train_loss"]
    assert found.steps[0]["error"] is None
    write_page([found], tmp_path / "report.html")


@pytest.mark.parametrize("network", ["with_dropout", "partly_frozen"])
def test_a_network_of_ones_own_is_the_same_in_a_run_that_was_stopped(
    idx_folder: Path, tmp_path: Path, network: str
) -> None:
    fields = {"factory": f"{NETWORKS}:{network}"}
    straight = run(idx_folder, tmp_path / "a", **fields)
    torch.rand(7)
    assert run(idx_folder, tmp_path / "b", 12, **fields) is None
    torch.rand(11)
    resumed = run(idx_folder, tmp_path / "b", **fields)
    assert straight is not None
    assert resumed is not None
    assert resumed["params_sha256"] == straight["params_sha256"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"factory": "nothing"}, "model.factory: expected package.module:function, got nothing"),
        ({"factory": "a b:c"}, "model.factory: expected package.module:function"),
        ({"factory": "a:b", "hidden": (3,)}, "model.hidden: model.factory does not use it"),
        ({"factory": "a:b", "pretrain": 9}, "model.pretrain: model.factory does not use it"),
        ({"pretrain": -1}, "model.pretrain: expected >= 0, got -1"),
        ({"pretrain": 9, "hidden": (3,)}, "model.pretrain: expected 2 hidden layers or more"),
        ({"pretrain": 9, "start": "x"}, "model.start: expected none beside model.pretrain"),
        ({"pretrain": 9, "energy": 0.5}, "model.energy: expected none beside model.pretrain"),
        ({"rank": 0}, "model.rank: expected >= 1, got 0"),
        ({"rank": 5, "energy": 0.5}, "model.energy: expected none beside model.rank"),
        ({"energy": 1.5}, r"model.energy: expected in \(0, 1\], got 1.5"),
    ],
    ids=str,
)
def test_fields_that_make_no_sense_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ModelFields(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"factory": f"{NETWORKS}:no_loss"}, "model.factory: .* must return"),
        ({"factory": f"{NETWORKS}:summing"}, "model.factory: the loss must be the mean"),
        ({"factory": f"{NETWORKS}:too_wide"}, "model.factory: .*shapes cannot be multiplied"),
        ({"factory": "tests.nowhere:x"}, "model.factory: tests.nowhere cannot be imported"),
        ({"start": "nowhere"}, "model.start: nowhere: cannot be read"),
        ({"start": "OUT"}, "model.start: expected another run's"),
        ({"start": "OUT/model.safetensors"}, "model.start: expected another run's"),
        ({"start": "OUT/checkpoints/step-00000001"}, "model.start: expected another run's"),
        ({"hidden": (90,), "start": "EARLIER"}, r"model.start: .*2.bias: got shape \[30\]"),
        ({"hidden": (8,), "rank": 8}, "model.rank: expected less: no hidden layer"),
        ({"hidden": (8,), "energy": 1.0}, "model.energy: expected less: no hidden layer"),
    ],
    ids=str,
)
def test_mistakes_are_found_before_anything_is_trained(
    fields: dict[str, Any], said: str, idx_folder: Path, earlier: Path, tmp_path: Path
) -> None:
    places = {"OUT": str(tmp_path), "EARLIER": str(earlier)}
    start = fields.get("start")
    if start is not None:
        for word, place in places.items():
            start = start.replace(word, place)
        fields = {**fields, "start": start}
    with pytest.raises(ValueError, match=said):
        job_of(idx_folder, tmp_path, **fields)
