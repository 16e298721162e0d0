"""The examples run, and stay short enough to be read."""

import importlib.util
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from thinwire.cli import main

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
DATA = {  # recipes with samples of their own: what a run must reach, and flags that shorten it
    "terrain": ("test_r2", ["--epochs", "3"]),
    "source_code": ("test_error", ["--epochs", "6"]),
    "stocks": ("test_r2", []),
}
SCRIPTS = [path for path in EXAMPLES if path.stem not in (*DATA, "own_network")]
MOST_LINES = 60
ARGUMENTS = {
    "char_transformer": ["--steps", "6", "--start-steps", "3"],
    "local_steps": ["20"],
    "with_accelerate": ["12"],
    "with_lightning": ["12"],
    "with_transformers": ["12"],
}
RECIPES = {
    "sgd": "[optimizer]\nlr = 0.2",
    "hessian-free": "[hessian_free]\niterations = 2\ncurvature_batch = 100",
}
NEEDS = {
    "with_accelerate": "accelerate",
    "with_lightning": "lightning",
    "with_transformers": "transformers",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_length(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.slow
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_runs(path: Path, tmp_path: Path) -> None:
    needed = NEEDS.get(path.stem)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    result = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", path, *ARGUMENTS.get(path.stem, [])],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.mark.parametrize("name", DATA)
def test_a_recipe_with_its_own_samples_learns(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "stocks":
        pytest.importorskip("pyarrow")
    for ending in ("py", "toml"):
        shutil.copy(FOLDER / f"{name}.{ending}", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    runpy.run_path(f"{name}.py", run_name="__main__")
    metric, flags = DATA[name]
    assert main(["train", f"{name}.toml", "--out", "run", *flags]) == 0
    score = json.loads(Path("run/summary.json").read_text(encoding="utf-8"))[metric]
    # Without learning: six of seven packages are wrong, and the mean's R2 is 0.
    assert score < 0.6 if metric == "test_error" else score > 0.1


@pytest.mark.parametrize("algorithm", RECIPES)
def test_a_network_of_ones_own_is_trained(
    algorithm: str, idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "own.toml"
    own = '[model]\nfactory = "own_network:network"'
    recipe.write_text(f'algorithm = "{algorithm}"\n{RECIPES[algorithm]}\n{own}\n')
    monkeypatch.chdir(FOLDER)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["train", str(recipe), "--data", str(idx_folder), "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    convolution, side = 9 * 8 + 8, 3
    assert summary["params"] == convolution + (8 * side**2 + 1) * 10
    assert summary["test_error"] < 0.5
