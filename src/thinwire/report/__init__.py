"""Event files of training runs, and the tables, figures and pages made from them.

This package reads event files only: it knows nothing of torch or of the rest of thinwire.
"""

from .events import EVENTS_FILE, EventLog, read_events
from .labels import load_runs, with_unique_labels
from .page import page_html, write_page
from .plots import all_curves, curves_svg, residual_svg, traffic_svg
from .run import Run, load_run
from .series import AXES, METRICS, Axis, Metric
from .table import FORMATS, render, table_rows, terminal_table
from .words import Tile, sentence, tiles

__all__ = [
    "AXES",
    "EVENTS_FILE",
    "FORMATS",
    "METRICS",
    "Axis",
    "EventLog",
    "Metric",
    "Run",
    "Tile",
    "all_curves",
    "curves_svg",
    "load_run",
    "load_runs",
    "page_html",
    "read_events",
    "render",
    "residual_svg",
    "sentence",
    "table_rows",
    "terminal_table",
    "tiles",
    "traffic_svg",
    "with_unique_labels",
    "write_page",
]
