"""What a run changed on its way: drawn where it changed, tabled as it was chosen."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from tests.report.builder import write_run
from thinwire.report import EventLog, load_run, load_runs, page_html, schedule_of, schedule_svg
from thinwire.report.schedule import schedule_points, selection_rows


def write_adaptive_run(folder, name="adaptive"):
    """Two selections, three measurements of held-out accuracy, one decay."""
    write_run(folder, name=name, epochs=0, finish=False)
    with EventLog(folder / "events.jsonl") as log:
        log.write("step", step=1, epoch=0.5, minibatch=256, lr=0.2)
        for epoch, size, accuracies in ((1.0, 512, [0.9, 0.89, None]), (2.0, 1024, [0.5, "x"])):
            chosen = {"before": 256, "minibatch": size, "sizes": [256, 512, 1024]}
            cost = {"trials": 3, "trial_samples": 98304, "trial_seconds": 1.25}
            place = {"step": int(epoch) + 1, "epoch": epoch}
            log.write(
                "selection", **place, **chosen, **cost, accuracies=accuracies, trial_bytes=4e6
            )
        for epoch, accuracy in ((1.0, 0.95), (2.0, 0.94)):
            place = {"step": int(epoch) + 1, "epoch": epoch}
            log.write("held_out", **place, accuracy=accuracy, best=0.95)
        log.write("decay", step=3, epoch=2.0, lr=0.1, accuracy=0.94, best=0.95, ended=False)
    return folder


def test_the_points_are_those_of_the_events(tmp_path):
    run = load_run(write_adaptive_run(tmp_path))
    minibatch, rate, held_out = schedule_of([run])
    assert schedule_points(run, minibatch) == [(0.5, 256), (1.0, 512), (2.0, 1024)]
    assert schedule_points(run, rate) == [(0.5, 0.2), (2.0, 0.1)]
    assert schedule_points(run, held_out) == [(1.0, 95), (2.0, 94)]


def test_only_what_changed_is_drawn(tmp_path):
    runs = load_runs([write_run(tmp_path / "a"), write_adaptive_run(tmp_path / "b", "<b>")])
    for quantity in schedule_of(runs):
        assert schedule_svg(runs[:1], quantity) is None
        svg = schedule_svg(runs, quantity)
        texts = [element.text for element in ElementTree.fromstring(svg).iter()]
        assert {quantity.title, "<b>"} <= set(texts)
        assert svg == schedule_svg(runs, quantity)
    assert "What changed on the way" not in page_html(runs[:1])
    assert "minibatch sizes tried" not in page_html(runs[:1])


def test_every_selection_is_a_row_with_its_cost_so_far(tmp_path):
    run = load_run(write_adaptive_run(tmp_path))
    assert selection_rows(run) == [
        [
            "1",
            "256",
            "512",
            "256: 90.00 %, 512: 89.00 %, 1,024: failed",
            "98,304",
            "1.2",
            "4.00 MB",
        ],
        ["2", "256", "1,024", "256: 50.00 %, 512: failed", "98,304", "1.2", "4.00 MB"],
    ]
    html = page_html([run])
    assert "What changed on the way" in html
    assert "512: 89.00 %, 1,024: failed" in html
    assert html.count("<svg ") == 13  # the ten curves and these three


def test_events_the_report_cannot_use_are_named(tmp_path):
    write_adaptive_run(tmp_path)
    path = tmp_path / "events.jsonl"
    with path.open("a") as file:
        file.write(json.dumps({"event": "selection", "minibatch": "many"}) + "\n")
    with pytest.raises(ValueError, match="field minibatch: got 'many', expected a number"):
        load_run(tmp_path)
