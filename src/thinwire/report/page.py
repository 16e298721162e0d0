"""The report as one HTML file: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from thinwire.files import write_atomically
from thinwire.report.columns import columns_of
from thinwire.report.details import Skips, setting_rows, skip_rows, traffic_rows
from thinwire.report.iterations import ITERATION_HEADINGS, iteration_rows
from thinwire.report.labels import with_unique_labels
from thinwire.report.metrics import metrics_of
from thinwire.report.plots import all_curves, residual_svg
from thinwire.report.rules import COUNTING_RULES
from thinwire.report.run import Run
from thinwire.report.schedule import schedule_of, schedule_svg, selection_headings, selection_rows
from thinwire.report.seconds import step_rows, step_svg
from thinwire.report.series import AXES
from thinwire.report.style import run_colours
from thinwire.report.table import table_cells
from thinwire.report.thresholds import price_blocks
from thinwire.report.traffic import traffic_svg
from thinwire.report.words import Tile, sentence, tiles

_TEMPLATE = "template.html"


@dataclass(frozen=True)
class _Card:
    """What the template shows of one run; all of it plain text, escaped by the template."""

    label: str
    colour: str
    finished: bool
    sentence: str
    tiles: list[Tile]
    skips: Skips
    times: list[tuple[str, str, str, str, str, str]]
    traffic: list[tuple[str, str, str, str, str]]
    iterations: list[list[str]]
    selections: list[list[str]]
    selection_headings: tuple[str, ...]
    settings: list[tuple[str, str]]


@dataclass(frozen=True)
class _Figure:
    """One figure: its caption and SVG text, None where there is nothing to draw."""

    caption: str
    svg: Any


def page_html(runs: Sequence[Run], title: str = "") -> str:
    """Make the page.

    Args:
        runs: The runs to compare, at least one. Equal runs give equal pages.
        title: The heading; empty for one made from the run's name.

    Returns:
        A whole HTML document.

    Raises:
        ValueError: If there is no run.
    """
    from jinja2 import Environment, StrictUndefined

    if not runs:
        raise ValueError("runs: got none, expected at least one run to report")
    named = with_unique_labels(runs)
    # Autoescape is the guard: names in event files are anybody's text.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(
        title=title or (named[0].label if len(named) == 1 else f"{len(named)} training runs"),
        cards=[
            _card(run, colour) for run, colour in zip(named, run_colours(len(named)), strict=True)
        ],
        columns=columns_of(named),
        rows=table_cells(named),
        prices=price_blocks(named),
        rules=COUNTING_RULES,
        iteration_headings=ITERATION_HEADINGS,
        sections=_curve_sections(named),
        step_figure=_step_figure(named),
        schedule=_schedule_figures(named),
        extras=_extra_figures(named),
    )


def write_page(runs: Sequence[Run], path: Path, title: str = "") -> None:
    """Write the page in one go: a reader sees the old file or the new one, never a part.

    Args:
        runs: As `page_html`.
        path: The HTML file; missing folders are made.
        title: As `page_html`.

    Raises:
        ValueError: If there is no run.
        OSError: If the file cannot be written.
    """
    html = page_html(runs, title)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, html)


def _card(run: Run, colour: str) -> _Card:
    return _Card(
        label=run.label,
        colour=colour,
        finished=run.finished,
        sentence=sentence(run),
        tiles=tiles(run),
        skips=skip_rows(run),
        times=step_rows(run),
        traffic=traffic_rows(run),
        iterations=iteration_rows(run),
        selections=selection_rows(run),
        selection_headings=selection_headings(run),
        settings=setting_rows(run),
    )


def _curve_sections(runs: Sequence[Run]) -> list[tuple[str, list[_Figure]]]:
    """The curves, one section per x axis."""
    curves = all_curves(runs, legend=False)
    sections = []
    for axis in AXES:
        figures = [
            _Figure(metric.label, _markup(curves[axis.key, metric.key]))
            for metric in metrics_of(runs)
        ]
        sections.append((f"Against {axis.title}", figures))
    return sections


def _step_figure(runs: Sequence[Run]) -> _Figure | None:
    svg = step_svg(runs)
    return None if svg is None else _Figure("a mean step", _markup(svg))


def _schedule_figures(runs: Sequence[Run]) -> list[_Figure]:
    """What the runs changed on their way; none of it where it stayed the same."""
    drawn = [
        (quantity.title, schedule_svg(runs, quantity, legend=False))
        for quantity in schedule_of(runs)
    ]
    return [_Figure(title, _markup(svg)) for title, svg in drawn if svg is not None]


def _extra_figures(runs: Sequence[Run]) -> list[_Figure]:
    found = [
        ("bytes sent per worker, by stage", traffic_svg(runs, legend=False)),
        (
            "residual ratio over steps; thick: stage 2 (owners), thin: stage 1 (workers)",
            residual_svg(runs, legend=False),
        ),
    ]
    return [_Figure(caption, _markup(svg)) for caption, svg in found if svg is not None]


def _markup(svg: str) -> Any:
    """Let SVG through the autoescape: matplotlib has escaped every text in it."""
    from markupsafe import Markup

    return Markup(svg)
