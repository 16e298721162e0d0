"""Networks of other dtypes in recipes."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.train.test_network import NETWORKS, job_of, run

NAME = "trainer"


@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(dtype, id=dtype, marks=pytest.mark.support(f"parameters of {dtype}", NAME))
        for dtype in ("float64", "bfloat16", "float16")
    ],
)
def test_networks_of_other_dtypes_train(idx_folder: Path, tmp_path: Path, dtype: str) -> None:
    summary = run(idx_folder, tmp_path, factory=f"{NETWORKS}:of_{dtype}")
    assert summary is not None
    assert summary["test_error"] < 0.5
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert {str(tensor.dtype) for tensor in stored.values()} == {f"torch.{dtype}"}


@pytest.mark.support("parameters of float64", NAME)
def test_hessian_free_trains_float64(idx_folder: Path, tmp_path: Path) -> None:
    fields = {"factory": f"{NETWORKS}:of_float64", "algorithm": "hessian-free"}
    summary = run(idx_folder, tmp_path, **fields)  # type: ignore[arg-type]
    assert summary is not None
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert all(tensor.dtype == torch.float64 for tensor in stored.values())


@pytest.mark.support("nn.Embedding(sparse=True)", NAME, refused=True, note="use sparse=False")
def test_sparse_gradients_are_refused_by_name(idx_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.factory: inner\.0\.weight: .*sparse=False"):
        job_of(idx_folder, tmp_path, factory=f"{NETWORKS}:sparse")
