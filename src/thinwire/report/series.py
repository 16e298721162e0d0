"""Curves taken from a run: what is drawn against what, and not more points than can be seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from thinwire.report.events import Event
from thinwire.report.metrics import Metric
from thinwire.report.run import Run, number

MAX_POINTS = 1000

Points = list[tuple[float, float]]
"""Pairs (x, y) in drawing order; y is NaN where the line has a gap."""


@dataclass(frozen=True)
class Axis:
    """A quantity to draw against.

    Attributes:
        key: Its short name.
        title: The axis label, with its unit.
        field: The cumulative field of step and epoch events.
        scale: What the field is multiplied with.
        may_log: Whether runs of very different size get a logarithmic axis.
    """

    key: str
    title: str
    field: str
    scale: float = 1.0
    may_log: bool = False


AXES: tuple[Axis, ...] = (
    Axis("iterations", "iterations", "step", may_log=True),
    Axis("epochs", "epochs (effective passes over the data)", "epoch"),
    Axis("communications", "vector communications", "communications", may_log=True),
    Axis("bytes", "MB sent by worker 0", "bytes_sent", scale=1e-6, may_log=True),
    Axis("seconds", "training seconds", "seconds", may_log=True),
)


def train_points(run: Run, metric: Metric, axis: Axis) -> Points:
    """The training curve, decimated; a non-finite value makes a gap.

    Of a run that measured it on all training samples these values; of any other the averages of
    its step events.
    """
    if run.exact:
        return decimate(_points(run.epochs, metric.train, metric.scale, axis))
    return decimate(_points(run.steps, metric.key, metric.scale, axis))


def epoch_points(run: Run, metric: Metric, axis: Axis) -> Points:
    """One point per epoch event, decimated."""
    return decimate(_points(run.epochs, metric.test, metric.scale, axis))


def residual_points(run: Run, stage: int) -> Points:
    """The ratio of residual to input against the step number, decimated.

    Args:
        run: The run; steps without ratios (the cold start) are left out.
        stage: 0 for stage 1 of the exchange (workers), 1 for stage 2 (owners).
    """
    points: Points = []
    for event in run.steps:
        x = number(event, "step")
        ratios = event.get("residual_ratio")
        if x is not None and isinstance(ratios, list) and stage < len(ratios):
            y = number({"ratio": ratios[stage]}, "ratio")
            points.append((x, math.nan if y is None else y))
    return decimate(points)


def decimate(points: Points, limit: int = MAX_POINTS) -> Points:
    """Thin a curve so that it still looks the same.

    Each of equally long stretches keeps its lowest and its highest point, so that spikes stay;
    the first and the last point stay always. A stretch without any finite value stays a gap.

    Args:
        points: Pairs (x, y).
        limit: The most points to return, at least 4.
    """
    if len(points) <= limit:
        return list(points)
    stretches = (limit - 2) // 2
    inner = points[1:-1]
    kept = [points[0]]
    for index in range(stretches):
        begin = index * len(inner) // stretches
        end = (index + 1) * len(inner) // stretches
        kept += _lowest_and_highest(inner[begin:end])
    return [*kept, points[-1]]


def wants_log(values: Iterable[float], factor: float = 10.0) -> bool:
    """Whether positive values span more than a factor (others are not counted)."""
    positive = [value for value in values if math.isfinite(value) and value > 0]
    return bool(positive) and max(positive) > factor * min(positive)


def axis_wants_log(runs: Sequence[Run], axis: Axis) -> bool:
    """Whether the runs' totals along an axis differ by more than ten times."""
    return axis.may_log and wants_log(_total(run, axis) for run in runs)


def _total(run: Run, axis: Axis) -> float:
    found = [number(event, axis.field) for event in (*run.steps, *run.epochs)]
    return max((value for value in found if value is not None), default=0.0)


def _points(events: Sequence[Event], field: str, scale: float, axis: Axis) -> Points:
    points: Points = []
    for event in events:
        x = number(event, axis.field)
        if x is None:
            continue
        y = number(event, field)
        points.append((x * axis.scale, math.nan if y is None else y * scale))
    return points


def _lowest_and_highest(points: Points) -> Points:
    finite = [point for point in points if not math.isnan(point[1])]
    if not finite:
        return points[:1]
    height: Callable[[tuple[float, float]], float] = lambda point: point[1]  # noqa: E731
    ends = {min(finite, key=height), max(finite, key=height)}
    return sorted(ends)
