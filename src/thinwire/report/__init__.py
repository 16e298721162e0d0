"""Event files of training runs, and the tables, figures and pages made from them.

This package reads event files only: it knows nothing of torch or of the rest of thinwire.
"""

from thinwire.report.events import EVENTS_FILE, EventLog, read_events
from thinwire.report.labels import load_runs, with_unique_labels
from thinwire.report.metrics import ACCURACY, ERROR, LOSS, Metric, metrics_of
from thinwire.report.page import page_html, write_page
from thinwire.report.plots import all_curves, curves_svg, residual_svg
from thinwire.report.rules import COUNTING_RULES
from thinwire.report.run import Run, load_run
from thinwire.report.schedule import schedule_of, schedule_svg
from thinwire.report.seconds import StepTimes, step_rows, step_svg, step_times
from thinwire.report.series import AXES, Axis
from thinwire.report.table import FORMATS, render, table_rows, terminal_table
from thinwire.report.thresholds import PriceBlock, price_blocks, price_rows, price_tables
from thinwire.report.traffic import traffic_svg
from thinwire.report.words import Tile, sentence, tiles

__all__ = [
    "ACCURACY",
    "AXES",
    "COUNTING_RULES",
    "ERROR",
    "EVENTS_FILE",
    "FORMATS",
    "LOSS",
    "Axis",
    "EventLog",
    "Metric",
    "PriceBlock",
    "Run",
    "StepTimes",
    "Tile",
    "all_curves",
    "curves_svg",
    "load_run",
    "load_runs",
    "metrics_of",
    "page_html",
    "price_blocks",
    "price_rows",
    "price_tables",
    "read_events",
    "render",
    "residual_svg",
    "schedule_of",
    "schedule_svg",
    "sentence",
    "step_rows",
    "step_svg",
    "step_times",
    "table_rows",
    "terminal_table",
    "tiles",
    "traffic_svg",
    "with_unique_labels",
    "write_page",
]
