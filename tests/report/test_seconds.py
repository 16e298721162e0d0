"""What a step took: rows that add up, a figure, and events that tell it badly or not at all."""

from pathlib import Path

import pytest

from tests.report.builder import write_run
from thinwire.report import load_run, page_html, step_rows, step_svg, step_times

TIMES = {
    "step": 0.016,
    "frm": 0.008,
    "post": 0.001,
    "comm": 0.004,
    "upd": 0.002,
    "other": 0.001,
    "hidden": {"post": 0.0005, "comm": 0.006, "upd": 0.0},
    "samples": 64.0,
}


def run_of(folder: Path, times: object, **more: bool):
    return load_run(write_run(folder, times=times, **more))


@pytest.mark.parametrize("finish", [True, False])
def test_rows_are_the_step_in_both_units(tmp_path: Path, finish: bool) -> None:
    """Of an unfinished run they are those of its last step event."""
    rows = {name: cells for name, *cells in step_rows(run_of(tmp_path, TIMES, finish=finish))}
    assert [*rows][-2:] == ["step", "one sample"]
    assert rows["communication"] == ["T_comm", "4", "15.6", "25.0 %", "6"]
    assert rows["update"][-1] == "\N{EN DASH}", "nothing was hidden"
    # 4 workers of 64 samples: 62.5 microseconds a sample, 125 for one of a worker's own.
    assert rows["step"] == ["", "16", "62.5", "100.0 %", "6.5"]
    assert rows["one sample"][:3] == ["T_calc^frm", "\N{EN DASH}", "125"]
    parts = [float(cells[1]) for name, cells in rows.items() if name not in ("step", "one sample")]
    assert sum(parts) == 16


@pytest.mark.parametrize(
    "times",
    [
        None,
        "fast",
        {},
        {**TIMES, "hidden": None},
        {**TIMES, "comm": "slow"},
        {**TIMES, "step": float("nan")},
        {name: value for name, value in TIMES.items() if name != "samples"},
    ],
    ids=repr,
)
def test_what_is_not_told_is_not_shown(tmp_path: Path, times: object) -> None:
    run = run_of(tmp_path, times)
    assert step_times(run) is None
    assert step_rows(run) == []
    assert step_svg([run]) is None


def test_a_step_without_samples_or_seconds(tmp_path: Path) -> None:
    nothing = dict.fromkeys(TIMES, 0.0) | {"hidden": {}}
    rows = step_rows(run_of(tmp_path, nothing))
    assert rows[-1][0] == "step"
    assert {row[3] for row in rows} == {"\N{EN DASH}"}


def test_the_page_shows_the_runs_that_tell(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "a", TIMES), run_of(tmp_path / "b", None)]
    html = page_html(runs)
    assert html.count("seconds of a step</h3>") == 1
    assert "<td>T_comm</td>" in html
    assert "ms a step (pale" in html
