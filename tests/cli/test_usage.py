"""What is typed: switches, names from elsewhere, tables in files."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from thinwire.cli import main
from thinwire.cli.usage import UsageError, parse, switches
from thinwire.train import Recipe


@dataclass(frozen=True)
class Inner:
    loud: bool = False
    size: int = 3


@dataclass(frozen=True)
class Outer:
    """Something to parse."""

    fast: bool = False
    share: bool | float = True
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("args", "fast", "loud"),
    [
        (["--fast"], True, False),
        (["--fast", "--inner.loud"], True, True),
        (["--fast", "False", "--inner.loud", "yes"], False, True),
        (["--fast=no", "--inner.loud=on"], False, True),
        (["--inner.size", "1", "--inner.loud", "TRUE"], False, True),
        (["--fast", "0"], False, False),
    ],
)
def test_switches_are_typed_as_elsewhere(args: list[str], fast: bool, loud: bool) -> None:
    found = parse(Outer(), args, prog="it")
    assert (found.fast, found.inner.loud) == (fast, loud)


def test_what_may_be_a_number_is_no_switch() -> None:
    assert switches(Outer) == ["--fast", "--inner.loud"]
    assert parse(Outer(), ["--share", "0.5"], prog="it").share == 0.5
    assert parse(Outer(), ["--share", "False"], prog="it").share is False


@pytest.mark.parametrize("value", ["maybe", "2", "-1"])
def test_other_values_are_refused(value: str) -> None:
    with pytest.raises(UsageError, match="fast"):
        parse(Outer(), ["--fast", value], prog="it")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--optimizer.learning-rate", "--optimizer.lr"),
        ("--local.learning-rate", "--local.lr"),
        ("--learning-rate", "--optimizer.lr"),
        ("--batch-size", "--minibatch"),
        ("--num-workers", "--workers"),
        ("--max-epochs", "--epochs"),
        ("--bits", "--exchange.code"),
        ("--epoch", "--epochs"),
    ],
)
def test_names_from_elsewhere_lead_to_ours(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        parse(Recipe(), [typed, "3"], prog="it")


def test_a_table_goes_where_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = {"event": "start", "schema": 1, "name": "a run"}
    (tmp_path / "events.jsonl").write_text(json.dumps(start) + "\n")
    out = tmp_path / "table.json"
    command = ["report", str(tmp_path), "--format", "json"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert main([*command, "--out", str(out)]) == 0
    assert out.read_text() == printed
    assert capsys.readouterr().out == f"wrote {out}\n"
