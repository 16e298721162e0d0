"""The smaller tables of the page: skipped steps, traffic by stage, recipe and versions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from thinwire.report.formatting import data_size, plain, whole
from thinwire.report.run import Run, number
from thinwire.report.text import clean_text

MAX_SKIPS = 50
MAX_SETTINGS = 500
MAX_STAGES = 64


@dataclass(frozen=True)
class Skips:
    """The skipped steps of a run.

    Attributes:
        rows: Step, worker and parameter of the first ones.
        more: How many are not shown.
    """

    rows: list[tuple[str, str, str]]
    more: int


def skip_rows(run: Run) -> Skips:
    """List the steps which a non-finite gradient made all workers skip."""
    rows = [
        (
            whole(number(event, "step")),
            whole(number(event, "worker")),
            clean_text(plain(event.get("parameter"))),
        )
        for event in run.skips[:MAX_SKIPS]
    ]
    return Skips(rows, len(run.skips) - len(rows))


def traffic_rows(run: Run) -> list[tuple[str, str, str, str, str]]:
    """Stage, collectives, messages, bytes and share of all bytes; empty when not told."""
    traffic = run.result.get("traffic")
    listed = traffic if isinstance(traffic, list) else []
    entries = [entry for entry in listed[:MAX_STAGES] if isinstance(entry, dict)]
    total = sum(number(entry, "bytes") or 0.0 for entry in entries)
    rows = []
    for entry in entries:
        count = number(entry, "bytes")
        rows.append(
            (
                clean_text(entry.get("stage", "unnamed")),
                whole(number(entry, "collectives")),
                whole(number(entry, "messages")),
                data_size(count),
                plain(None) if not total or count is None else f"{100 * count / total:.1f} %",
            )
        )
    return rows


def setting_rows(run: Run) -> list[tuple[str, str]]:
    """What made a run: identity, phases, versions and the recipe, as dotted names and values."""
    result = run.result
    rows: list[tuple[str, Any]] = [
        ("folder", run.folder.name),
        ("seed", result.get("seed", run.start.get("seed"))),
        ("parameters", result.get("params", run.start.get("params"))),
        ("training samples", run.start.get("train_samples")),
        ("final parameters, SHA-256", result.get("params_sha256")),
    ]
    if run.left_out:
        rows.append(("step events left out", run.left_out))
    for phase in run.phases[:MAX_SETTINGS]:
        rows.append(("phase", f"{phase.get('name')} from step {phase.get('step')}"))
    rows += _flat("version", result.get("versions") or run.start.get("versions"))
    rows += _flat("recipe", run.start.get("recipe"))
    told = [(clean_text(key), clean_text(value)) for key, value in rows if value is not None]
    return told[:MAX_SETTINGS]


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Walk nested dicts; lists stay one value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}", item)
    elif isinstance(value, bool):
        yield prefix, "true" if value else "false"
    elif value is not None:
        yield prefix, value
