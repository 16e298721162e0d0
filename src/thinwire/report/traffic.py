"""What a worker sent, by stage of the exchange: as numbers and as a bar chart."""

from __future__ import annotations

from collections.abc import Sequence

from thinwire.report.canvas import add_legend, new_figure
from thinwire.report.details import MAX_STAGES
from thinwire.report.formatting import data_size
from thinwire.report.run import Run, number
from thinwire.report.style import figure_style, plain_ticks, run_colours, to_svg
from thinwire.report.text import clean_text, shorten


def traffic_svg(runs: Sequence[Run], legend: bool = True) -> str | None:
    """Draw the bytes each worker sent, by stage, as bars.

    Returns:
        SVG text, or None when no run has told its traffic.
    """
    by_stage = [traffic_bytes(run) for run in runs]
    stages = list(dict.fromkeys(stage for traffic in by_stage for stage in traffic))
    if not stages:
        return None
    with figure_style("traffic"):
        rows = len(stages) * len(runs)
        figure, axes = new_figure(height=1.1 + 0.26 * rows + 0.2 * len(stages))
        thickness = 0.8 / len(runs)
        for index, colour in enumerate(run_colours(len(runs))):
            traffic = by_stage[index]
            places = [place for place, stage in enumerate(stages) if stage in traffic]
            heights = [place - 0.4 + thickness * (index + 0.5) for place in places]
            counts = [traffic[stages[place]] for place in places]
            widths = [count / 1e6 for count in counts]
            bars = axes.barh(heights, widths, height=thickness * 0.85, color=colour)
            axes.bar_label(bars, [data_size(count) for count in counts], padding=4)
        axes.set_yticks(range(len(stages)), [shorten(stage, 24) for stage in stages])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
        axes.set_xlabel("MB sent per worker")
        plain_ticks(axes, "x")
        if legend:
            add_legend(figure, runs)
        return to_svg(figure, "bytes sent per worker, by stage")


def traffic_bytes(run: Run) -> dict[str, float]:
    """Bytes sent per worker, by stage; entries which are not understood are left out."""
    found: dict[str, float] = {}
    traffic = run.result.get("traffic")
    for entry in traffic[:MAX_STAGES] if isinstance(traffic, list) else ():
        count = number(entry, "bytes") if isinstance(entry, dict) else None
        if count is not None and count >= 0:
            stage = clean_text(entry.get("stage", "unnamed"))
            found[stage] = found.get(stage, 0.0) + count
    return found
