"""What every iteration of a Hessian-free run did, as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thinwire.report.formatting import plain, significant, whole
from thinwire.report.run import Run, number
from thinwire.report.text import clean_text

MAX_ROWS = 200

# Heading, field of the step event, and how a number is written (None: the field is text).
_FIELDS: tuple[tuple[str, str, Callable[[Any], str] | None], ...] = (
    ("iteration", "step", whole),
    ("objective", "objective", significant),
    ("step length", "alpha", significant),
    ("damping", "damping", significant),
    ("ratio", "ratio", significant),
    ("kind", "kind", None),
    ("solver", "outcome", None),
    ("solver iterations", "solver_iterations", whole),
    ("products", "products", whole),
    ("candidates", "candidates", whole),
    ("trials", "trials", whole),
    ("note", "note", None),
)
ITERATION_HEADINGS = tuple(heading for heading, _, _ in _FIELDS)


def iteration_rows(run: Run) -> list[list[str]]:
    """One row per iteration, the last ``MAX_ROWS`` of them; none for a run of minibatches."""
    told = [event for event in run.steps if "objective" in event]
    return [
        [
            _cell(event.get(name) if text is None else number(event, name), text)
            for _, name, text in _FIELDS
        ]
        for event in told[-MAX_ROWS:]
    ]


def _cell(value: Any, text: Callable[[Any], str] | None) -> str:
    return clean_text(plain(value), 200) if text is None else text(value)
