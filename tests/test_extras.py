"""The library needs torch and numpy alone; what an extra has is asked for by name."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import thinwire
from thinwire.needed import EXTRAS, MissingPackageError, missing, needed

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(EXTRAS)}))  # as if none of them were there
"""


def python(code: str, *, without: bool = True) -> subprocess.CompletedProcess[str]:
    whole = (WITHOUT if without else "") + code
    return subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, check=False
    )


def name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_-]", requirement)[0].replace("-", "_")


def test_the_table_of_extras_is_the_projects() -> None:
    assert {name_of(each) for each in PROJECT["dependencies"]} == {"torch", "numpy"}
    of_extra = {
        name_of(requirement): extra
        for extra, requirements in PROJECT["optional-dependencies"].items()
        for requirement in requirements
        if extra not in ("all", "dev", "docs") and not requirement.startswith("thinwire[")
    }
    assert of_extra == EXTRAS


def test_importing_it_imports_nothing_else() -> None:
    done = python("import thinwire, sys; print('torch' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_the_library_works_with_torch_and_numpy_alone() -> None:
    code = """
import torch
import thinwire
from thinwire import *
layer = torch.nn.Linear(3, 2)
optimizer = thinwire.OneBitSGD(layer.named_parameters(), 0.1)
layer(torch.ones(4, 3)).sum().backward()
optimizer.step()
print(len(dir(thinwire)), all(hasattr(thinwire, name) for name in thinwire.__all__))
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(thinwire.__all__)} True\n"


@pytest.mark.parametrize("command", ["train", "report", "data", "plan"])
def test_a_command_says_which_extra_it_needs(command: str) -> None:
    code = f"from thinwire.cli import main; sys.exit(main([{command!r}, 'mnist-onebit']))"
    done = python(code)
    assert done.returncode == 1
    assert re.fullmatch(
        rf"thinwire {command}: \w+ is not installed: pip install 'thinwire\[cli\]'\n", done.stderr
    ), done.stderr


def test_names_that_are_not_there_are_told_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'thinwire' has no attribute 'nothing'"):
        _ = thinwire.nothing  # type: ignore[attr-defined]


def test_a_package_of_no_extra_is_the_users_own_affair() -> None:
    error = ModuleNotFoundError("no", name="somebodys.module")
    assert missing(error) is error
    with pytest.raises(ModuleNotFoundError):
        needed("somebodys.module")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'thinwire\[speech\]'"):
        needed("soxr")
