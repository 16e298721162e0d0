"""The examples run, and stay short enough to be read."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
MOST_LINES = 60
ARGUMENTS = {
    "char_transformer": ["--steps", "6", "--cold-start", "3"],
    "with_accelerate": ["12"],
    "with_lightning": ["12"],
}
NEEDS = {"with_accelerate": "accelerate", "with_lightning": "lightning"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_length(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
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
