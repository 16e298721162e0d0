"""The network of a setting, and the whole plan: its tables, figures and sentences."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.plan.examples import LINK, profile, setting, write_run
from thinwire.plan import (
    ETHERNET_GOODPUT,
    SubBatchTimes,
    make_goal,
    make_plan,
    make_prediction,
    make_setting,
    planned_methods,
)
from thinwire.plan.figure import figures
from thinwire.plan.methods import ONE_BIT
from thinwire.plan.remarks import efficiency_warning, expectation
from thinwire.report import load_runs


def test_a_line_rate_carries_headers_and_a_measured_bandwidth_does_not() -> None:
    assert make_setting(profile()).network.outer == LINK
    asked = make_setting(profile(), bandwidth=125e6)
    assert asked.network.outer == replace(LINK, bandwidth=125e6 * ETHERNET_GOODPUT)
    assert asked.line_rate == 125e6
    assert make_setting(profile(), latency=0.2).network.outer.latency == 0.2


def test_a_profile_without_network_asks_for_one() -> None:
    alone = profile(link=None)
    assert make_setting(alone, bandwidth=125e6).network.outer.latency == 50e-6
    with pytest.raises(ValueError, match="bandwidth: expected a line rate such as 1Gbit/s"):
        make_setting(alone)


def test_a_plan_has_tables_and_figures_for_every_minibatch_and_for_the_goal(
    tmp_path: Path,
) -> None:
    runs = load_runs([write_run(tmp_path, "1-bit SGD", 256, 40)])
    one = make_plan(setting(), [1, 2], [512])
    assert one.speed_tables[0].title == "samples/s at minibatch 512"
    assert one.target_tables == []
    assert list(figures(one)) == [""]
    two = make_plan(setting(), [1, 2], [512, 1024], runs=runs, goal=make_goal("train", 25))
    assert len(two.speed_tables) == 8
    assert [table.title for table in two.target_tables] == ["time to 25 % train error (minibatch)"]
    assert list(figures(two)) == ["-512", "-1024", "-target"]
    for table in [*two.speed_tables, *two.target_tables]:
        assert {len(row) for row in table.rows} == {len(table.header)}


def test_methods_that_do_not_divide_are_left_out() -> None:
    made = make_prediction(setting(), planned_methods(2), 512, [1, 2])
    mp = made.methods[-1]
    assert mp.name == "1-bit MP2"
    assert [workers for workers, _ in made.made(mp)] == [2]
    found = made.fastest(1)
    assert found is not None
    assert found[0] != mp
    assert made.fastest(3) is None


def test_what_to_expect_names_the_first_network_and_the_best() -> None:
    where = make_setting(profile(), bandwidth=125e6)
    made = make_prediction(where, [ONE_BIT], 512, [1, 2, 8])
    told = expectation(where, made)
    two, eight = (step for workers, step in made.made(ONE_BIT) if workers > 1)
    assert told == (
        f"With 2 machines at 1 Gbit/s and minibatch 512 expect {two.samples_per_second:,.0f} "
        f"samples/s from 1-bit, {made.speed_up(two):.2f} times the speed of one worker alone. The "
        f"most is {made.speed_up(eight):.2f} times, from 1-bit with 8 workers."
    )


def test_what_to_expect_counts_machines_and_not_workers() -> None:
    where = make_setting(profile(), bandwidth=125e6, per_node=2)
    told = expectation(where, make_prediction(where, [ONE_BIT], 512, [1, 2, 4, 5]))
    assert told is not None
    assert told.startswith("With 2 machines of 2 workers at 1 Gbit/s")
    assert told.endswith("No other number of workers that was tried is faster.")
    assert expectation(where, make_prediction(where, [ONE_BIT], 512, [1, 2])) is None


def test_what_to_expect_says_when_more_workers_do_not_pay() -> None:
    where = make_setting(profile(), bandwidth=100.0)
    told = expectation(where, make_prediction(where, [ONE_BIT], 512, [1, 2, 4]))
    assert told is not None
    assert told.endswith("No number of workers that was tried is faster than one.")


def test_only_efficiencies_that_tables_show_as_more_than_100_per_cent_are_warned_of() -> None:
    def warning(last: float) -> str | None:
        times = SubBatchTimes((500, 1000), (0.5, last))
        where = make_setting(profile(compute=times), bandwidth=1e12, latency=0.0)
        return efficiency_warning([make_prediction(where, [ONE_BIT], 1000, [1, 2])])

    assert warning(1.0) is None
    told = warning(1.5)
    assert told is not None
    assert told.startswith("Warning: 1-bit on 2 workers at minibatch 1,000 is predicted to be 14")
