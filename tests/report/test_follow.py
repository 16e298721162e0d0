"""Events as they are written: each once, in order, until the run ends."""

from pathlib import Path

import pytest

from thinwire.report import EventLog
from thinwire.report.follow import follow, scalars


def test_events_come_as_they_are_written(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write("start", schema=1)
    later = iter([lambda: log.write("step", step=1, loss=0.5), lambda: log.write("end", steps=1)])
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        next(later)()

    kinds = [event["event"] for event in follow(tmp_path, wait)]
    assert kinds == ["start", "step", "end"]
    assert len(waited) == 2
    log.close()


def test_half_a_line_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "start"}\n{"event": "en')

    def wait(_: float) -> None:
        with path.open("a") as file:
            file.write('d"}\n')

    assert [event["event"] for event in follow(tmp_path, wait)] == ["start", "end"]


@pytest.mark.parametrize("last", ["start end", "decoding", ""])
def test_what_stands_behind_an_end_comes_too(tmp_path: Path, last: str) -> None:
    lines = ["start", "end", "decoding", *last.split()]
    text = "".join(f'{{"event": "{kind}"}}\n' for kind in lines)
    (tmp_path / "events.jsonl").write_text(text)

    def never(_: float) -> None:
        raise AssertionError

    assert [event["event"] for event in follow(tmp_path, never)] == lines


def test_a_run_that_is_started_anew_is_told(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "start"}\n')

    def wait(_: float) -> None:
        other = tmp_path / "other"
        other.write_text('{"event": "start"}\n')
        other.replace(path)

    with pytest.raises(ValueError, match="started anew"):
        list(follow(tmp_path, wait))


def test_broken_lines_are_named(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"event": "start"}\nnonsense\n')
    with pytest.raises(ValueError, match="line 2"):
        list(follow(tmp_path))


def test_only_figures_are_shown() -> None:
    event = {"event": "step", "step": 4, "loss": 1.5, "exact": True, "lr": None, "times": {"a": 1}}
    assert scalars(event) == {"step/loss": 1.5}
