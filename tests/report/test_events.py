"""Event files: what is written is read, and what is broken is named."""

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.report import EventLog, read_events

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.text(min_size=1).filter(lambda name: name not in ("event", "self"))


@given(
    events=st.lists(st.tuples(st.text(), st.dictionaries(names, values, max_size=4)), max_size=4)
)
def test_what_is_written_is_read(events):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        with EventLog(path) as log:
            for kind, fields in events:
                log.write(kind, **fields)
        assert read_events(path) == [{"event": kind, **fields} for kind, fields in events]


def test_every_event_is_on_disk_at_once(tmp_path):
    with EventLog(tmp_path / "deep" / "events.jsonl") as log:
        log.write("step", step=1)
        assert read_events(log.path) == [{"event": "step", "step": 1}]


def test_non_finite_numbers_are_null_and_numpy_numbers_are_numbers(tmp_path):
    with EventLog(tmp_path / "e.jsonl") as log:
        log.write(
            "step", a=math.nan, b=[math.inf, {"c": -math.inf}], d=np.float32(0.5), e=np.int64(3)
        )
    (event,) = read_events(log.path)
    assert event == {"event": "step", "a": None, "b": [None, {"c": None}], "d": 0.5, "e": 3}


def test_a_field_json_cannot_say_is_named(tmp_path):
    with EventLog(tmp_path / "e.jsonl") as log, pytest.raises(TypeError, match=r"field a\.b\[1\]"):
        log.write("step", a={"b": [1, object()]})
    assert log.path.read_text() == ""


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_partial_last_line_is_dropped(tmp_path, cut):
    with EventLog(tmp_path / "e.jsonl") as log:
        log.write("step", step=1)
        log.write("step", step=2, more="text")
    data = log.path.read_bytes()
    log.path.write_bytes(data[: -1 - cut])
    assert [event["step"] for event in read_events(log.path)] == [1]


def test_a_continued_log_mends_the_partial_line(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_text('{"event":"step","step":1}\n{"event":"st')
    with EventLog(path) as log:
        log.write("step", step=2)
    path.write_text(path.read_text().rstrip("\n"))
    with EventLog(path) as log:
        log.write("step", step=3)
    assert [event["step"] for event in read_events(path)] == [1, 2, 3]


@pytest.mark.parametrize("broken", ["{", "", "[1]", '{"step": 1}', '{"event": 1}', "\udcff"])
def test_a_broken_line_is_named(tmp_path, broken):
    path = tmp_path / "e.jsonl"
    text = f'{{"event":"step"}}\n{broken}\n{{"event":"step"}}\n'
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"e\.jsonl, line 2: got .* expected"):
        read_events(path)


def test_a_missing_file_says_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not a run folder: expected events\.jsonl"):
        read_events(tmp_path / "events.jsonl")
