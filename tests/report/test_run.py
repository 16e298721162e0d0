"""Runs: finished, unfinished, resumed, and of equal name."""

import json

import pytest

from tests.report.builder import write_run
from thinwire.report import EventLog, load_run, load_runs, read_events, sentence, tiles


def test_a_finished_run(tmp_path):
    run = load_run(write_run(tmp_path / "a", skips=2))
    assert run.label == "mnist-onebit"
    assert run.finished
    assert (len(run.steps), len(run.epochs), len(run.skips)) == (20, 2, 2)
    assert sentence(run) == (
        "4 workers, 1-bit: 2.0 % test error after 2 epochs, "
        "28.6 times fewer bytes than dense, 2 steps skipped."
    )
    assert [tile.value for tile in tiles(run)] == [
        "2.03 %",
        "28.6 \N{MULTIPLICATION SIGN}",
        "20,000",
        "2.10 MB",
    ]


def test_an_unfinished_run_tells_what_it_has(tmp_path):
    run = load_run(write_run(tmp_path / "a", finish=False))
    assert not run.finished
    assert run.summary is None
    assert run.result["steps"] == 20
    assert run.result["test_error"] == 0.0203
    assert run.result["communications"] == 60
    assert sentence(run).endswith("28.6 times fewer bytes than dense (unfinished).")


def test_a_run_that_only_started(tmp_path):
    run = load_run(write_run(tmp_path / "a", epochs=0, finish=False))
    assert sentence(run) == "4 workers, 1-bit: no result yet (unfinished)."


def test_a_resumed_run_keeps_the_second_try_of_repeated_steps(tmp_path):
    folder = write_run(tmp_path / "a", finish=False)
    start = read_events(folder / "events.jsonl")[0]
    del start["event"]
    with EventLog(folder / "events.jsonl") as log:
        log.write("start", **start)
        log.write("step", step=15, loss=99.0)
        log.write("epoch", step=20, epoch=2)
    run = load_run(folder)
    assert [event["step"] for event in run.steps] == [*range(1, 15), 15]
    assert run.steps[-1]["loss"] == 99.0
    assert [event["step"] for event in run.epochs] == [10, 20]


def test_equal_names_are_told_apart(tmp_path):
    folders = [write_run(tmp_path / where, epochs=0) for where in ("a", "b", "deep/b")]
    folders.append(write_run(tmp_path / "c", name="other", epochs=0))
    runs = load_runs([*folders, folders[0]])
    labels = [run.label for run in runs]
    assert len(set(labels)) == 5
    assert labels[3] == "other"
    assert [run.label for run in load_runs(folders[:2])] == ["mnist-onebit (a)", "mnist-onebit (b)"]


def test_a_nameless_run_is_called_after_its_folder(tmp_path):
    assert load_run(write_run(tmp_path / "here", name="", epochs=0)).label == "here"


def test_a_label_is_one_printable_line(tmp_path):
    name = "a\nb\x1b[31m\u202e\ud800" + "x" * 200
    label = load_run(write_run(tmp_path / "a", name=name, epochs=0)).label
    assert label.isprintable()
    assert len(label) == 80
    assert label.encode()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"event": "step"}], "line 1: got event 'step', expected 'start'"),
        ([{"event": "start", "schema": 2}], "line 1, field schema: got 2, expected 1"),
        (
            [{"event": "start", "schema": 1}, {"event": "step", "loss": "low"}],
            "line 2, field loss: got 'low', expected a number or null",
        ),
        ([], "expected a start event"),
    ],
)
def test_events_the_report_cannot_use_are_named(tmp_path, lines, message):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "events.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compression": 1.0}, "as many bytes as dense"),
        ({"compression": 0.5}, "2.0 times more bytes than dense"),
        ({"compression": None}, "2.10 MB sent per worker"),
        ({"bytes_sent_per_worker": 0}, "nothing sent"),
        ({"replicas_identical": False}, "and the replicas differ"),
        ({"workers": 1, "method": "hf"}, "1 worker, Hessian-free"),
    ],
)
def test_the_sentence_follows_the_numbers(tmp_path, changes, words):
    folder = write_run(tmp_path / "a")
    events = read_events(folder / "events.jsonl")
    events[-1] |= changes
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert words in sentence(load_run(folder))
