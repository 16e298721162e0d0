"""Former names of recipe fields and flags mean what they meant, and say what to write now."""

from pathlib import Path
from typing import Any

import pytest

from thinwire.cli.train import recipe_of
from thinwire.cli.usage import UsageError
from thinwire.train.recipe_files import flat_fields
from thinwire.train.resume import _completed


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bits = [1, 4]", {"code": ("sign", "4-bit")}),
        ('code = "rotated"\nbits = [1, 4]', {"code": ("rotated", "4-bit")}),
        ("bits = [4, 4]", {"code": "4-bit"}),
        ("bits = [1, 1]", {"code": "sign", "start": "4-bit", "start_samples": 0}),
        ("cold_start = 9", {"start": "serial", "start_samples": 9}),
        ('cold_start = 9\ncold_start_mode = "dense"', {"start": "float32", "start_samples": 9}),
        ('cold_start = 0\ncold_start_mode = "serial"', {"start": "4-bit", "start_samples": 0}),
    ],
)
def test_a_file_of_a_former_version(tmp_path: Path, text: str, found: dict[str, Any]) -> None:
    path = tmp_path / "former.toml"
    path.write_text(f"[exchange]\n{text}\n")
    _, recipe = recipe_of(str(path), [])
    assert {name: getattr(recipe.exchange, name) for name in found} == found


@pytest.mark.parametrize(
    ("recipe", "flags", "found"),
    [
        ("mnist-onebit", ["--exchange.cold-start", "9"], ("sign", "serial", 9)),
        ("mnist-onebit", ["--exchange.cold-start=9"], ("sign", "serial", 9)),
        ("mnist-onebit", ["--exchange.cold-start", "0"], ("sign", "serial", 0)),
        (
            "mnist-onebit",
            ["--exchange.cold-start", "9", "--exchange.cold-start-mode", "dense"],
            ("sign", "float32", 9),
        ),
        ("mnist-onebit", ["--exchange.bits", "1", "4"], (("sign", "4-bit"), "serial", 60000)),
        ("mnist-dense", ["--exchange.cold-start", "9"], ("float32", "serial", 9)),
    ],
)
def test_flags_of_a_former_version(recipe: str, flags: list[str], found: Any) -> None:
    with pytest.warns(FutureWarning, match=r"former names.*write --exchange"):
        exchange = recipe_of(recipe, ["--seed", "3", *flags, "--epochs", "2"])[1].exchange
    assert (exchange.code, exchange.start, exchange.start_samples) == found


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--exchange.bits", "1", "3"], "bits: expected 1, 2, 4 or 8"),
        (["--exchange.cold-start", "many"], "exchange.cold_start: expected whole numbers"),
        (["--exchange.cold-start-mode", "warm"], "exchange.cold_start_mode: expected serial"),
    ],
)
def test_mistakes_in_them_are_named(flags: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        recipe_of("mnist-onebit", flags)


def test_a_checkpoint_of_a_former_version_is_of_the_same_run() -> None:
    """Its manifest has all fields by their former names."""
    _, recipe = recipe_of("mnist-onebit", ["--exchange.code", "sign", "4-bit"])
    now = flat_fields(recipe)
    new = ("exchange.code", "exchange.start", "exchange.start_samples", "exchange.start_steps")
    former = {name: value for name, value in now.items() if name not in new} | {
        "exchange.code": "sign",
        "exchange.bits": [1, 4],
        "exchange.cold_start": 60000,
        "exchange.cold_start_mode": "serial",
    }
    assert _completed(former) == now
    assert _completed({**former, "exchange.cold_start": 9}) != now
