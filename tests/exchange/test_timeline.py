"""What is exposed and what is hidden: every second of a span is one of the two."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.exchange import TERMS, Timeline, span
from thinwire.exchange import timeline as module
from thinwire.exchange.timeline import TERM_OF, overlap

moments = st.lists(st.integers(0, 10**6), max_size=24, unique=True).map(
    lambda found: sorted(float(moment) for moment in found)
)


def disjoint(found: list[float]) -> list[tuple[float, float]]:
    return list(zip(found[0::2], found[1::2], strict=False))


@given(moments, moments)
def test_overlap_is_the_length_of_the_intersection(one: list[float], other: list[float]) -> None:
    for start, stop in disjoint(one):
        plain = sum(max(0.0, min(stop, b) - max(start, a)) for a, b in disjoint(other))
        assert overlap(start, stop, disjoint(other)) == plain


def test_spans_are_split_by_what_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 20.0, 21.0, 30.0, 33.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    timeline = Timeline()
    with timeline.waiting():  # 10 .. 12
        pass
    with span("apply", timeline.own):  # 20 .. 21
        pass
    with timeline.waiting():  # 30 .. 33
        pass
    others = [("quantise", 9.0, 11.0), ("all_to_all", 11.0, 31.5), ("post-process", 40.0, 44.0)]
    timeline.settle(others)
    assert timeline.exposed == {"post": 0.0, "comm": 1.0 + 1.5, "upd": 1.0 + 1.0}
    assert timeline.hidden == {"post": 4.0, "comm": 18.0, "upd": 1.0}
    timeline.settle([("sum", 10.0, 12.0)])
    assert timeline.exposed["upd"] == 2.0, "what has been settled does not count again"


@given(moments, moments, st.lists(st.sampled_from(sorted(TERM_OF)), min_size=12, max_size=12))
def test_exposed_and_hidden_are_all_of_it(
    spans: list[float], waits: list[float], names: list[str]
) -> None:
    timeline = Timeline()
    timeline._waits = disjoint(waits)
    timeline.settle([(name, *pair) for name, pair in zip(names, disjoint(spans), strict=False)])
    total = sum(timeline.exposed.values()) + sum(timeline.hidden.values())
    assert total == sum(stop - start for start, stop in disjoint(spans))
    assert sum(timeline.exposed.values()) <= sum(stop - start for start, stop in disjoint(waits))


def test_terms_are_those_of_the_equation() -> None:
    assert set(TERM_OF.values()) == set(TERMS)


def test_work_that_fails_is_not_entered() -> None:
    spans: list[tuple[str, float, float]] = []
    with pytest.raises(ValueError, match="broken"), span("sum", spans):
        raise ValueError("broken")
    before = time.perf_counter()
    with span("sum", spans):
        pass
    assert [name for name, _, _ in spans] == ["sum"]
    assert before <= spans[0][1] <= spans[0][2]
