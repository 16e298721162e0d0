"""Figures: deterministic, standalone, thinned without losing spikes."""

import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.builder import write_run
from thinwire.report import AXES, LOSS, curves_svg, load_runs, residual_svg, traffic_svg
from thinwire.report.series import axis_wants_log, decimate
from thinwire.report.style import run_colours

BYTES = next(axis for axis in AXES if axis.key == "bytes")
BAD_NAME = "_<script>alert(1)</script> $\\frac{$ \u4e2d ]]> --"


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.text]


def test_names_are_text_and_never_markup_or_formulas(tmp_path):
    runs = load_runs([write_run(tmp_path / "a", name=BAD_NAME, stage=BAD_NAME[:20])])
    for svg in (curves_svg(runs, LOSS, BYTES), traffic_svg(runs), residual_svg(runs)):
        assert "<script" not in svg
        assert BAD_NAME in texts(svg)
    assert BAD_NAME[:20] in texts(traffic_svg(runs))


def test_the_same_runs_give_the_same_figure_without_a_date(tmp_path):
    runs = load_runs([write_run(tmp_path / "a"), write_run(tmp_path / "b", name="other")])
    svg = curves_svg(runs, LOSS, BYTES)
    assert svg == curves_svg(runs, LOSS, BYTES)
    assert "<metadata" not in svg
    assert "<style" not in svg


@pytest.mark.parametrize("finish", [True, False])
def test_empty_curves_can_be_drawn(tmp_path, finish):
    runs = load_runs([write_run(tmp_path / "a", epochs=0, finish=finish)])
    assert curves_svg(runs, LOSS, BYTES).startswith("<svg ")
    assert residual_svg(runs) is None
    assert (traffic_svg(runs) is None) == (not finish)


def test_bytes_are_logarithmic_when_runs_differ_much(tmp_path):
    thin, wide = write_run(tmp_path / "a"), write_run(tmp_path / "b", factor=1.0)
    close = write_run(tmp_path / "c", factor=9.0)
    assert axis_wants_log(load_runs([thin, wide]), BYTES)
    assert not axis_wants_log(load_runs([thin, close]), BYTES)
    assert "MB sent by worker 0 (log scale)" in texts(
        curves_svg(load_runs([thin, wide]), LOSS, BYTES)
    )


@given(heights=st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=300))
def test_a_thinned_curve_keeps_order_ends_and_extremes(heights):
    points = [(float(x), y) for x, y in enumerate(heights)]
    thin = decimate(points, limit=50)
    assert len(thin) <= 50
    assert [x for x, _ in thin] == sorted({x for x, _ in thin})
    if points:
        assert (thin[0][0], thin[-1][0]) == (points[0][0], points[-1][0])
    finite = [y for y in heights if not math.isnan(y)]
    if finite:
        kept = [y for _, y in thin if not math.isnan(y)]
        assert (min(kept), max(kept)) == (min(finite), max(finite))


def test_colours_are_distinct_and_stay_when_runs_are_added():
    colours = run_colours(40)
    assert len(set(colours)) == 40
    assert run_colours(3) == colours[:3]
