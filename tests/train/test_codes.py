"""The codes that recipes name."""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from thinwire.cli import main
from thinwire.cli.train import recipe_of
from thinwire.quantize import code_names, registry
from thinwire.train.codes import CHOICES, check_codes, import_codes, registered
from thinwire.train.fields import ExchangeFields, HessianFreeFields
from thinwire.train.recipe import Recipe
from thinwire.train.recipe_files import flat_fields, to_toml

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN = "ternary_code:TERNARY"


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the table, a path and modules that are as before after the test."""
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "ternary_code", raising=False)


@pytest.fixture
def among_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)


@pytest.mark.parametrize(
    ("code", "method"),
    [
        ("sign", "1-bit SGD"),
        ("4-bit", "4-bit SGD"),
        (("sign", "4-bit"), "1/4-bit SGD"),
        ("rotated", "rotated 1-bit SGD"),
        (("rotated", "4-bit"), "rotated 1/4-bit SGD"),
        ("float32", "dense SGD"),
        ("bfloat16", "bfloat16 16-bit SGD"),
    ],
)
def test_what_runs_are_called(code: str | tuple[str, str], method: str) -> None:
    assert Recipe(exchange=ExchangeFields(code=code)).method == method
    late = ExchangeFields(code=code, double_buffer=True)
    assert Recipe(exchange=late).method == f"{method}, double-buffered"


@pytest.mark.parametrize("code", ["8-bit", ("sign", "4-bit"), OWN, ("sign", OWN)])
def test_codes_survive_flags_and_toml(code: str | tuple[str, str], tmp_path: Path) -> None:
    flags = ["--exchange.code", *([code] if isinstance(code, str) else code)]
    _, recipe = recipe_of("mnist-onebit", flags)
    assert recipe.exchange.code == code
    (tmp_path / "again.toml").write_text(to_toml(recipe))
    _, again = recipe_of(str(tmp_path / "again.toml"), [])
    assert flat_fields(again) == flat_fields(recipe)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"code": "two"}, r"exchange\.code: expected one of sign, .*, got 'two'"),
        ({"code": ("sign", "two")}, r"exchange\.code: expected one of sign, .*, got 'two'"),
        ({"code": "no module:here"}, r"exchange\.code: expected one of"),
        ({"start": "warm"}, r"exchange\.start: expected one of sign, .*, got 'warm'"),
        ({"start_steps": -1}, r"exchange\.start_steps: expected >= 0, got -1"),
        ({"start_steps": 1, "start_samples": 1}, r"exchange\.start_steps: expected 0 beside"),
        ({"bucket_mb": 0.0}, r"exchange\.bucket_mb: expected > 0, got 0"),
        ({"error_feedback": 1.5}, r"exchange\.error_feedback: expected True, False or a part"),
    ],
)
def test_mistakes_name_the_field(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ExchangeFields(**fields)


def test_a_mistake_in_hessian_free_codes_names_the_field() -> None:
    with pytest.raises(ValueError, match=r"hessian_free\.codes: expected one of .*, got 'two'"):
        HessianFreeFields(codes=("sign", "two"))


def test_help_lists_the_registered_codes() -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        recipe_of("mnist-onebit", ["--help"])
    for name in code_names():
        assert name in CHOICES
        assert name in said.getvalue()


@pytest.mark.usefixtures("among_examples")
def test_only_preparing_a_run_imports() -> None:
    """A recipe may come from a stored run, and reading one must run nobody's code."""
    check_codes("exchange.code", OWN)
    recipe = Recipe(exchange=ExchangeFields(code=OWN))
    with pytest.raises(ValueError, match="call import_codes first"):
        registered(OWN)
    assert "ternary_code" not in sys.modules
    assert "ternary" not in code_names()
    import_codes([OWN, "sign", OWN])
    assert code_names()[-1] == registered(OWN) == "ternary"
    assert registered(("sign", OWN)) == ("sign", "ternary")
    assert recipe.method == "ternary 1.6-bit SGD"


@pytest.mark.usefixtures("among_examples")
def test_what_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="code nowhere:CODE: nowhere cannot be imported"):
        import_codes(["nowhere:CODE"])
    with pytest.raises(
        ValueError, match="code ternary_code:OTHER: expected a CodeSpec, got a None"
    ):
        import_codes(["ternary_code:OTHER"])
    with pytest.raises(ValueError, match="expected a CodeSpec, got a ABCMeta"):
        import_codes(["ternary_code:TernaryCode"])


@pytest.mark.usefixtures("among_examples")
def test_a_recipe_trains_over_a_code_of_ones_own(idx_folder: Path, tmp_path: Path) -> None:
    flags = ["--data", str(idx_folder), "--out", str(tmp_path), "--exchange.code", OWN]
    small = ["--model.hidden", "20", "--epochs", "2", "--minibatch", "64"]
    assert main(["train", "mnist-onebit", *flags, *small]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["method"] == "ternary 1.6-bit SGD"
    assert summary["test_error"] < 0.5
