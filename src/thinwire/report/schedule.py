"""What a run changed on its way, over its epochs: minibatch size, learning rate, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thinwire.report.canvas import add_legend, draw_line, new_figure
from thinwire.report.events import Event
from thinwire.report.formatting import data_size, one_decimal, short, whole
from thinwire.report.metrics import Metric
from thinwire.report.run import Run, number
from thinwire.report.series import Points, decimate, wants_log
from thinwire.report.style import figure_style, plain_ticks, run_colours, to_svg

MAX_ROWS = 200
MAX_SIZES = 32


@dataclass(frozen=True)
class Quantity:
    """Something that changes in steps.

    Attributes:
        key: Its short name.
        title: The axis label, with its unit.
        field: Its field in the events.
        kinds: The events which tell it, as attributes of `Run`.
        scale: What it is multiplied with.
    """

    key: str
    title: str
    field: str
    kinds: tuple[str, ...]
    scale: float = 1.0


SCHEDULE: tuple[Quantity, ...] = (
    Quantity("minibatch", "samples in a minibatch", "minibatch", ("steps", "selections")),
    Quantity("lr", "learning rate", "lr", ("steps", "decays")),
)


def schedule_of(runs: Sequence[Run]) -> tuple[Quantity, ...]:
    """What runs may change on their way, and the held-out metrics of these."""
    deciding = dict.fromkeys(run.decides for run in runs)
    held_out = [
        Quantity(
            "held-out", f"held-out {metric.label}", metric.key, ("held_out",), scale=metric.scale
        )
        for metric in deciding
    ]
    return (*SCHEDULE, *held_out)


def selection_headings(run: Run) -> tuple[str, ...]:
    """The headings of `selection_rows`."""
    return (
        *("epoch", "before", "after", f"training {run.decides.title} by size"),
        *("samples in trials so far", "seconds", "sent"),
    )


def schedule_points(run: Run, quantity: Quantity) -> Points:
    """The quantity against epochs, as far as it is told."""
    events: list[Event] = [event for kind in quantity.kinds for event in getattr(run, kind)]
    found = [(number(event, "epoch"), number(event, quantity.field)) for event in events]
    return sorted((x, quantity.scale * y) for x, y in found if x is not None and y is not None)


def schedule_svg(runs: Sequence[Run], quantity: Quantity, legend: bool = True) -> str | None:
    """Draw one quantity of all runs over their epochs.

    Returns:
        SVG text, or None where no run changed it.
    """
    curves = [schedule_points(run, quantity) for run in runs]
    if not any(len({y for _, y in points}) > 1 for points in curves):
        return None
    with figure_style(f"schedule-{quantity.key}"):
        figure, axes = new_figure()
        for points, colour in zip(curves, run_colours(len(runs)), strict=True):
            draw_line(axes, decimate(points), color=colour, linewidth=1.4, drawstyle="steps-post")
        if wants_log(y for points in curves for _, y in points):
            axes.set_yscale("log", nonpositive="mask")
        plain_ticks(axes)
        axes.set_xlabel("epochs")
        axes.set_ylabel(quantity.title)
        if legend:
            add_legend(figure, runs)
        return to_svg(figure, f"{quantity.title} over epochs")


def selection_rows(run: Run) -> list[list[str]]:
    """One row for each choice of a minibatch size, the last ``MAX_ROWS`` of them."""
    return [
        [
            short(number(event, "epoch")),
            whole(number(event, "before")),
            whole(number(event, "minibatch")),
            _values_by_size(event, run.decides),
            whole(number(event, "trial_samples")),
            one_decimal(number(event, "trial_seconds")),
            data_size(number(event, "trial_bytes")),
        ]
        for event in run.selections[-MAX_ROWS:]
    ]


def _values_by_size(event: Event, metric: Metric) -> str:
    """Such as "256: 91.20 %, 512: failed"; what is not a list of numbers is left out."""
    sizes, values = event.get("sizes"), event.get(metric.plural)
    if not isinstance(sizes, list) or not isinstance(values, list):
        return ""
    told = []
    for size, told_value in zip(sizes[:MAX_SIZES], values, strict=False):
        value = number({"": told_value}, "")
        found = "failed" if value is None else metric.with_unit(value)
        told.append(f"{whole(number({'': size}, ''))}: {found}")
    return ", ".join(told)
