"""What it took to reach training errors, and the page of runs of both kinds."""

import io

import pytest
from rich.console import Console

from tests.report.builder import write_newton_run, write_run
from thinwire.report import (
    AXES,
    ERROR,
    LOSS,
    load_run,
    load_runs,
    page_html,
    price_rows,
    price_tables,
    tiles,
)
from thinwire.report.series import train_points


def test_the_first_evaluation_at_most_the_error_counts(tmp_path):
    rows = price_rows([load_run(write_newton_run(tmp_path / "a"))])
    assert [row["train_error_percent"] for row in rows] == [5, 4, 3, 2, 1]
    assert [row["iterations"] for row in rows] == [2, 2, 3, 3, 4]
    assert rows[3] == {
        "run": "mnist-hf",
        "train_error_percent": 2,
        "measured": "exact",
        "iterations": 3,
        "passes": 7.5,
        "communications": 6,
        "scalar_communications": 3,
        "mb_sent_per_worker": 9,
        "seconds": 0.3,
        "best_test_error_percent": 3,
    }


def test_what_was_not_reached_says_so(tmp_path):
    run = load_run(write_newton_run(tmp_path / "a", iterations=2))
    rows = price_rows([run])
    assert [row["iterations"] for row in rows] == [2, 2, None, None, None]
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(price_tables([run]))
    assert console.file.getvalue().count("never") == 3


def test_averages_are_not_called_exact_and_runs_without_errors_are_left_out(tmp_path):
    average, empty = write_run(tmp_path / "a"), write_run(tmp_path / "b", epochs=0)
    rows = price_rows(load_runs([average, empty]))
    assert {row["run"] for row in rows} == {"mnist-onebit (a)"}
    assert {row["measured"] for row in rows} == {"average"}


def test_exact_runs_draw_what_was_measured(tmp_path):
    loss, error = LOSS, ERROR
    iterations = next(axis for axis in AXES if axis.key == "iterations")
    run = load_run(write_newton_run(tmp_path / "a"))
    assert train_points(run, error, iterations) == [(1, 8), (2, 4), (3, 2), (4, 1)]
    assert train_points(run, loss, iterations)[-1] == (4, 0.25)


def test_a_page_of_both_kinds(tmp_path):
    runs = load_runs([write_newton_run(tmp_path / "a"), write_run(tmp_path / "b")])
    html = page_html(runs)
    for part in ("To reach a training error", "How it is counted", "Iterations", "&lt;b&gt;"):
        assert part in html
    assert "<b>" not in html
    assert "Against iterations" in html


def test_a_run_without_dense_twin_shows_its_communications(tmp_path):
    run = load_run(write_newton_run(tmp_path / "a"))
    assert [(t.title, t.value) for t in tiles(run)][1] == ("vector communications", "8")


def test_a_number_that_is_text_is_refused_by_name(tmp_path):
    path = write_newton_run(tmp_path / "a") / "events.jsonl"
    path.write_text(path.read_text().replace('"damping":0.01', '"damping":"low"'))
    with pytest.raises(ValueError, match="field damping: got 'low'"):
        load_run(tmp_path / "a")
