"""The package without a compiler, and the shipped recipe on the real data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        cwd=environment.get("PWD", ROOT),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_without_a_compiler_a_working_pure_package_is_built(
    tmp_path: Path, idx_folder: Path
) -> None:
    pip = [sys.executable, "-m", "pip"]
    broken = {"CC": "/nowhere/cc", "CXX": "/nowhere/c++"}
    run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT, **broken)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("py3-none-any.whl")
    site = tmp_path / "site"
    run(*pip, "install", "--no-deps", "--target", site, wheel)
    # The development installation's import hook would go before any path.
    start = "; ".join(
        (
            "import sys",
            "sys.meta_path[:] = [f for f in sys.meta_path if 'scikit' not in repr(f).lower()]",
            f"sys.path.insert(0, {str(site)!r})",
            "from thinwire.cli import main",
            "sys.exit(main(sys.argv[1:]))",
        )
    )
    said = run(sys.executable, "-c", start, "doctor", PWD=str(tmp_path))
    assert "reference" in said
    assert "without a C++ compiler" in said
    small = ["--model.hidden", "40", "--epochs", "1", "--data", str(idx_folder)]
    out = tmp_path / "run"
    run(
        *(sys.executable, "-c", start, "train", "mnist-onebit", *small, "--out", out),
        PWD=str(tmp_path),
    )
    summary = json.loads((out / "summary.json").read_text())
    assert summary["versions"]["kernels"] == "reference"


def test_mnist_onebit_reaches_the_promised_error_twice_alike(tmp_path: Path) -> None:
    """The README's main job: the error, the bytes, and the same bits when run again."""
    results = []
    for attempt in ("first", "second"):
        out = tmp_path / attempt
        run(
            sys.executable,
            "-m",
            "thinwire",
            "train",
            "mnist-onebit",
            "--workers",
            "4",
            "--out",
            out,
        )
        results.append(json.loads((out / "summary.json").read_text()))
    first, second = results
    assert first["test_error"] <= 0.023
    assert first["compression_steady"] >= 28
    assert first["replicas_identical"] is True
    assert first["params_sha256"] == second["params_sha256"]
