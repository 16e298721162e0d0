"""The event file of a run: one JSON object per line, written as training goes.

Line format: ``{"event": "<kind>", ...fields}``. JSON has no word for a non-finite number, so NaN
and the infinities are written as ``null``; a reader takes ``null`` to mean "no usable number".
"""

from __future__ import annotations

import json
import math
import numbers
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

EVENTS_FILE = "events.jsonl"

Event = dict[str, Any]


class EventLog:
    """Appends events to a file, each one flushed, so that a killed run keeps what it wrote.

    An existing file is continued, never cut: a resumed run writes a second ``start`` event. A
    partial last line left by a killed writer is removed first.

    Args:
        path: The file to append to; missing folders are made.

    Raises:
        OSError: If the file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _mend_last_line(self.path)
        self._file = self.path.open("a", encoding="utf-8", newline="\n")

    def write(self, event: str, **fields: Any) -> None:
        """Append one event and flush it.

        Args:
            event: The kind of event, such as ``"step"``.
            **fields: JSON-able values; tuples become lists, paths become strings and non-finite
                floats become null.

        Raises:
            TypeError: If a field holds something JSON cannot say.
            ValueError: If the log is closed.
        """
        line: Event = {"event": event}
        for name, value in fields.items():
            line[name] = _plain(value, name)
        self._file.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
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
    """Read every event of a file, in order.

    Args:
        path: The event file.

    Returns:
        One dict per line. An incomplete last line, which a killed writer leaves, is dropped.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If any other line is not a JSON object with an ``event`` name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.parent}: not a run folder: expected {path.name}, found no such file"
        )
    lines = path.read_bytes().split(b"\n")
    # After a complete last line the split leaves an empty tail; anything else is a partial line.
    tail = lines.pop()
    events = [_parse(line, path, number) for number, line in enumerate(lines, start=1)]
    if tail:
        with suppress(ValueError):
            events.append(_parse(tail, path, len(lines) + 1))
    return events


def _parse(line: bytes, path: Path, number: int) -> Event:
    """Read one line; ``number`` counts from 1 and is used in the error only."""
    try:
        event = json.loads(line.decode("utf-8"), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}, line {number}: got {_excerpt(line)}, expected one JSON object ({error})"
        ) from error
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise ValueError(
            f'{path}, line {number}: got {_excerpt(line)}, expected {{"event": "<kind>", ...}}'
        )
    return event


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


def _mend_last_line(path: Path) -> None:
    """Make a file end at a line end: keep a complete last event, cut a partial one."""
    if not path.is_file():
        return
    data = path.read_bytes()
    head, newline, tail = data.rpartition(b"\n")
    if not tail:
        return
    try:
        _parse(tail, path, 0)
    except ValueError:
        path.write_bytes(head + newline)
    else:
        path.write_bytes(data + b"\n")
