"""Run folders of strangers: reported or refused in one line, in less than a gibibyte."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.report.hostile import LARGE, SMALL, Lines, epoch, start, step, write_hostile
from thinwire.report import load_run
from thinwire.report import run as module

MEMORY = 1 << 30  # resident, with torch, which the command imports

# One process for all folders: what it says of each, and the most memory it had by then.
SCRIPT = """
import contextlib, io, json, resource, sys
from thinwire.cli import main
form, out, *folders = sys.argv[1:]
for folder in folders:
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = main(["report", folder, "--format", form, "--out", out])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([folder, code, said.getvalue(), peak]))
"""


def check_reports(made: list[Callable[[], Lines]], form: str, tmp_path: Path) -> None:
    folders = [write_hostile(tmp_path / make.__name__, make) for make in made]
    command = [sys.executable, "-c", SCRIPT, form, str(tmp_path / "page.html")]
    done = subprocess.run([*command, *map(str, folders)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [folder for folder, *_ in told] == [str(folder) for folder in folders]
    for folder, code, said, peak in told:
        assert code in (0, 2)
        assert len(said.splitlines()) == (1 if code else 0), folder
        assert (folder in said) == (code == 2)
        assert peak < MEMORY, folder


def test_small_files(tmp_path: Path) -> None:
    check_reports(SMALL, "md", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pages_and_large_files(tmp_path: Path) -> None:
    check_reports([*SMALL, *LARGE], "html", tmp_path)


def resumed(times: int) -> Lines:
    """A run whose every try goes back to the last checkpoint, one step before it ended."""
    yield start()
    yield from (step(number) for number in range(4_000))
    for number in range(times):
        yield start()
        yield from (step(3_999 + number), step(4_000 + number))


def hiding_its_past(times: int) -> Lines:
    """Every try begins with a step that makes all later ones worth another look."""
    yield start()
    for number in range(times):
        yield step(10**6 - number)
    yield from (step(number) for number in range(4_000))
    for number in range(times):
        yield start()
        yield step(10**6 - number)


def test_only_what_a_resumed_run_repeats_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REPEATED", 20 * 500)
    run = load_run(write_hostile(tmp_path / "resumed", lambda: resumed(500)))
    assert [event["step"] for event in run.steps] == list(range(4_500))
    with pytest.raises(ValueError, match="at most 10000 values which resumed runs repeat, got mo"):
        load_run(write_hostile(tmp_path / "hiding", lambda: hiding_its_past(500)))


def test_a_resumed_run_has_the_last_start_and_end(tmp_path: Path) -> None:
    def events() -> Lines:
        yield from (start(seed=1), step(1), step(2), epoch(1), {"event": "end", "steps": 2})
        yield from (start(seed=2), step(2), epoch(2))

    run = load_run(write_hostile(tmp_path, events))
    assert run.start["seed"] == 2
    assert run.summary is None
    assert [event["step"] for event in run.steps] == [1, 2]
    assert [event["step"] for event in run.epochs] == [200]


def test_numbers_json_does_not_have_are_none(tmp_path: Path) -> None:
    text = json.dumps(start()) + '\n{"event": "step", "step": 1, "loss": NaN, "lr": -Infinity}\n'
    (tmp_path / "events.jsonl").write_text(text + f'{{"event": "step", "step": 1{"0" * 400}}}\n')
    first, second = load_run(tmp_path).steps
    assert first["loss"] is first["lr"] is None
    assert second["step"] == 10**400
