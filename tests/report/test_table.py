"""The table says the same in every format."""

import csv
import io
import json

import pytest
from rich.console import Console

from tests.report.builder import write_run
from thinwire.report import load_runs, render, terminal_table

EXPECTED = {
    "run": "mnist-onebit",
    "status": "finished",
    "method": "onebit",
    "workers": 4,
    "steps": 20,
    "epochs": 2,
    "test_error_percent": 2.03,
    "train_error_percent": 1,
    "best_test_error_percent": 2.03,
    "communications": 60,
    "scalar_communications": "",
    "mb_sent_per_worker": 2.097902,
    "compression": 28.6,
    "compression_steady": 29.1,
    "seconds": 2,
    "samples_per_second": 20000,
    "replicas_identical": True,
}


@pytest.fixture
def runs(tmp_path):
    second = write_run(tmp_path / "b", name="[red]a|b</b>, c", finish=False)
    return load_runs([write_run(tmp_path / "a"), second])


def test_json(runs):
    first, second = json.loads(render(runs, "json"))
    assert [reached["train_error_percent"] for reached in first.pop("reached")] == [5, 4, 3, 2, 1]
    assert first == {**EXPECTED, "scalar_communications": None}
    assert second["status"] == "unfinished"
    assert second["compression_steady"] is None


def test_csv(runs):
    first, second = csv.DictReader(io.StringIO(render(runs, "csv")))
    assert first == {key: str(value) for key, value in EXPECTED.items()}
    assert second["run"] == "[red]a|b</b>, c"
    assert second["compression_steady"] == ""


def test_markdown_keeps_names_in_their_cell(runs):
    head, rule, first, second, *more = render(runs, "md").splitlines()
    assert head.startswith("| run | status | method | workers |")
    assert rule.count("|") == head.count("|") == first.count("|")
    assert (
        "| 2.03 | 1.00 | 2.03 | 60 | \N{EN DASH} | 2.1 | 28.6 | 29.1 | 2.0 | 20,000 | yes |"
        in first
    )
    assert second.startswith("| \\[red\\]a\\|b&lt;/b&gt;, c | unfinished |")
    assert "To reach a training error:" in more
    assert any(line.startswith("- vector communication: one sum") for line in more)


def test_terminal_fits_80_columns_and_takes_names_literally(runs):
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(terminal_table(runs))
    text = console.file.getvalue()
    assert "[red]a|b</b>, c" in text
    assert "2.03" in text


def test_an_unknown_format_is_refused(runs):
    with pytest.raises(ValueError, match="got 'xml', expected one of md, csv, json"):
        render(runs, "xml")
