"""The event file of a run: one JSON object per line, written as training goes.

Line format: ``{"event": "<kind>", ...fields}``. JSON has no word for a non-finite number, so NaN
and the infinities are written as ``null``; a reader takes ``null`` to mean "no usable number".
"""

from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec

from thinwire.files import check_in_place, open_appending, open_regular, writing

EVENTS_FILE = "events.jsonl"
MAX_BYTES = 1 << 28
"""Of an event file: half a million steps, of half a thousand bytes each."""
MAX_LINE_BYTES = 1 << 20
MAX_LINE_VALUES = 20_000
"""Values in one event, nested ones included; real ones have dozens."""

Event = dict[str, Any]

_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


class EventLog:
    """Appends events to a file, each one flushed, so that a killed run keeps what it wrote.

    An existing file is continued, never cut: a resumed run writes a second ``start`` event. A
    partial last line left by a killed writer is removed first.

    Args:
        path: The file to append to; missing folders are made.

    Raises:
        FileError: If the file cannot be opened for writing, or something else than a regular file
            has its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open_appending(self.path)
        with writing(self.path):
            _mend_last_line(self._file, self.path)

    def write(self, event: str, **fields: Any) -> None:
        """Append one event and flush it.

        Args:
            event: The kind of event, such as ``"step"``.
            **fields: JSON-able values; tuples become lists, paths become strings and non-finite
                floats become null.

        Raises:
            TypeError: If a field holds something JSON cannot say.
            ValueError: If the log is closed.
            FileError: If the file cannot be written, or is no longer where it was.
        """
        line: Event = {"event": event}
        for name, value in fields.items():
            line[name] = _plain(value, name)
        text = json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n"
        with writing(self.path):
            self._file.write(text.encode())
            self._file.flush()
            check_in_place(self._file, self.path)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        with writing(self.path):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_events(path: Path) -> list[Event]:
    """Read every event of a file, in order; see `iterate_events`."""
    return list(iterate_events(path))


def iterate_events(path: Path) -> Iterator[Event]:
    """Read the events of a file one after another.

    Args:
        path: The event file.

    Yields:
        One dict per line. An incomplete last line, which a killed writer leaves, is dropped.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If it is no regular file, or has more than ``MAX_BYTES``.
        ValueError: If any other line is not a JSON object with an ``event`` name, or is larger
            than an event can be.
    """
    path = Path(path)
    try:
        file = open_regular(path, limit=MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{path.parent}: not a run folder: expected {path.name}, found no such file"
        ) from None
    with file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(
                    f"{path}, line {number}: expected at most {MAX_LINE_BYTES} bytes, got more"
                )
            if line.endswith(b"\n"):
                yield parse_event(line[:-1], path, number)
                continue
            with suppress(ValueError):
                yield parse_event(line, path, number)


def parse_event(line: bytes, path: Path, number: int) -> Event:
    """Read one line, without its end; ``number`` counts from 1 and is used in the error only.

    Raises:
        ValueError: If the line is not a JSON object with an ``event`` name.
    """
    values = sum(map(line.count, (b",", b"[", b"{")))  # at least as many as there are
    if values > MAX_LINE_VALUES:
        raise ValueError(
            f"{path}, line {number}: expected at most {MAX_LINE_VALUES} values, got {values}"
        )
    try:
        event = _decoded(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}, line {number}: got {_excerpt(line)}, expected one JSON object ({error})"
        ) from error
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise ValueError(
            f'{path}, line {number}: got {_excerpt(line)}, expected {{"event": "<kind>", ...}}'
        )
    return event


def _decoded(line: bytes) -> Any:
    """What JSON says, NaN and infinities as None.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is nested too deep.
    """
    try:
        return msgspec.json.decode(line)  # several times as fast
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # It takes no NaN, no surrogates and no very large numbers, and says less of what is wrong.
        return _DECODER.decode(line.decode("utf-8"))


def _excerpt(line: bytes) -> str:
    """The start of a line, safe to print."""
    return repr(line[:60].decode("utf-8", "replace")) + ("..." if len(line) > 60 else "")


def _plain(value: Any, field: str) -> Any:
    """Turn a value into what JSON can say, non-finite floats into None.

    Raises:
        TypeError: If JSON cannot say it.
    """
    if value is None or isinstance(value, bool | str):
        return value
    # The abstract kinds take numpy's numbers too.
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{field}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{field}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"field {field}: got {type(value).__name__}, expected a JSON-able value")


def _mend_last_line(file: BinaryIO, path: Path) -> None:
    """Make a file end at a line end: keep a complete last event, cut a partial one."""
    size = os.fstat(file.fileno()).st_size
    # A writer flushes single events, so what is partial is no longer than one.
    file.seek(max(0, size - MAX_LINE_BYTES))
    tail = file.read(MAX_LINE_BYTES).rpartition(b"\n")[2]
    if not tail:
        return
    try:
        parse_event(tail, path, 0)
    except ValueError:
        file.truncate(size - len(tail))
    else:
        file.write(b"\n")
