"""The events of a run as they are written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from thinwire.files import open_regular
from thinwire.report.events import EVENTS_FILE, MAX_LINE_BYTES, Event, parse_event
from thinwire.report.run import number

_NO_VALUES = {"event", "step", "epoch", "seed", "schema", "rank", "time"}
PAUSE = 1.0  # seconds between looks at a file to which nothing was added


def follow(folder: Path, wait: Callable[[float], None] = time.sleep) -> Iterator[Event]:
    """Read the events of a run, and wait for more until the run has ended.

    Args:
        folder: The run folder.
        wait: Called with seconds when there is nothing new.

    Yields:
        Each event once it is complete. The last one is of kind "end"; what a resumed run adds
        behind an earlier end comes, too, if it is there already.

    Raises:
        FileNotFoundError: If the folder holds no event file.
        ValueError: If a line is no event, or the run was started anew in the meantime.
    """
    path = Path(folder) / EVENTS_FILE
    with open_regular(path) as file:
        count, ended, pending = 0, False, b""
        while True:
            added = file.readline(MAX_LINE_BYTES + 1 - len(pending))
            pending += added
            if len(pending) > MAX_LINE_BYTES:
                raise ValueError(f"{path}, line {count + 1}: got more than {MAX_LINE_BYTES} bytes")
            if pending.endswith(b"\n"):
                count += 1
                event, pending = parse_event(pending[:-1], path, count), b""
                ended = event["event"] == "end" or (ended and event["event"] != "start")
                yield event
            elif not added:
                if ended:
                    return
                if not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    raise ValueError(f"{path}: the run was started anew; follow it again")
                wait(PAUSE)


def scalars(event: Event) -> Mapping[str, float]:
    """Return the finite numbers of an event by name: "KIND/FIELD" -> value.

    >>> scalars({"event": "epoch", "step": 3, "test_loss": 0.5, "exact": True, "note": "x"})
    {'epoch/test_loss': 0.5}
    """
    found = {name: number(event, name) for name in event if name not in _NO_VALUES}
    return {f"{event['event']}/{name}": value for name, value in found.items() if value is not None}
