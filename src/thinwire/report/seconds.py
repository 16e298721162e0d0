"""What a step's seconds were spent on: a table for each run, and bars that stack up to the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thinwire.report.canvas import new_figure
from thinwire.report.formatting import MISSING, significant
from thinwire.report.run import Run, number
from thinwire.report.style import figure_style, plain_ticks, run_colours, to_svg
from thinwire.report.text import shorten

PARTS = {
    "frm": "forward and backward",
    "post": "post-processing",
    "upd": "update",
    "comm": "communication",
    "other": "other",
}
"""The parts of a step in the order in which they are stacked; all but "other" are S's terms."""

SYMBOLS = {
    "frm": "N T_calc^frm / K",
    "post": "C T_calc^post / K",
    "upd": "T_calc^upd",
    "comm": "T_comm",
    "other": "",
}

_THICKNESS = 0.42


@dataclass(frozen=True)
class StepTimes:
    """A mean step, on a mean worker.

    Attributes:
        step: Seconds from one step to the next.
        exposed: By part, seconds on the thread that trains; they add up to the step.
        hidden: By part, seconds the communication thread worked meanwhile.
        samples: In a minibatch, over all workers, N.
        workers: K.
    """

    step: float
    exposed: dict[str, float]
    hidden: dict[str, float]
    samples: float
    workers: float

    @property
    def per_frame(self) -> float | None:
        """T_calc^frm: seconds of forward and backward for each sample a worker processes."""
        return self.exposed["frm"] * self.workers / self.samples if self.samples > 0 else None


def step_times(run: Run) -> StepTimes | None:
    """What the run tells of its steps; None where it tells nothing, or not all of it."""
    times = run.result.get("times")
    if not isinstance(times, dict):
        return None
    hidden = times.get("hidden")
    found = {name: number(times, name) for name in ("step", "samples", *PARTS)}
    told = {name: value for name, value in found.items() if value is not None}
    if len(told) < len(found) or not isinstance(hidden, dict):
        return None
    workers = number(run.result, "workers") or 1.0
    return StepTimes(
        step=told["step"],
        exposed={name: max(0.0, told[name]) for name in PARTS},
        hidden={name: max(0.0, number(hidden, name) or 0.0) for name in PARTS},
        samples=told["samples"] * workers,
        workers=workers,
    )


def step_rows(run: Run) -> list[tuple[str, str, str, str, str, str]]:
    """Part, S's symbol, ms a step, microseconds a sample, share and hidden ms; empty if not told.

    A sample is one of the minibatch, over all workers; T_calc^frm, in the last row, is for one of
    the worker's own.
    """
    times = step_times(run)
    if times is None:
        return []
    rows = [
        _row(name, SYMBOLS[part], times.exposed[part], times, times.hidden[part])
        for part, name in PARTS.items()
    ]
    rows.append(_row("step", "", times.step, times, sum(times.hidden.values())))
    frame = times.per_frame
    if frame is not None:
        rows.append(("one sample", "T_calc^frm", MISSING, significant(1e6 * frame), "", MISSING))
    return rows


def step_svg(runs: Sequence[Run]) -> str | None:
    """Draw each run's mean step as a bar of its parts, and below it, paler, what was hidden.

    Returns:
        SVG text, or None when no run has told its parts.
    """
    told = [(run, times) for run in runs if (times := step_times(run)) is not None]
    if not told:
        return None
    with figure_style("step-times"):
        figure, axes = new_figure(height=1.3 + 0.75 * len(told))
        for place, (_, times) in enumerate(told):
            for look, parts in enumerate((times.exposed, times.hidden)):
                left = 0.0
                for (part, seconds), colour in zip(
                    parts.items(), run_colours(len(PARTS)), strict=True
                ):
                    axes.barh(
                        place + look * _THICKNESS,
                        1e3 * seconds,
                        _THICKNESS * 0.95,
                        left=left,
                        color=colour,
                        alpha=0.45 if look else 1.0,
                        label=PARTS[part] if not look and not place else None,
                    )
                    left += 1e3 * seconds
        axes.set_yticks(
            [place + _THICKNESS / 2 for place in range(len(told))],
            [shorten(run.label, 24) for run, _ in told],
        )
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlim(left=0)
        axes.set_xlabel("ms a step (pale: hidden behind it)")
        plain_ticks(axes, "x")
        figure.legend(loc="outside upper left", ncols=3)
        return to_svg(figure, "milliseconds of a step, by what they were spent on")


def _row(
    name: str, symbol: str, seconds: float, times: StepTimes, hidden: float
) -> tuple[str, str, str, str, str, str]:
    return (
        name,
        symbol,
        significant(1e3 * seconds),
        significant(1e6 * seconds / times.samples if times.samples > 0 else None),
        f"{100 * seconds / times.step:.1f} %" if times.step > 0 else MISSING,
        significant(1e3 * hidden) if hidden else MISSING,
    )
