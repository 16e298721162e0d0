"""The decoder finds the best way: all ways tried one by one agree, and so does OpenFst."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from thinwire.speech.classes import SILENCE, Classes
from thinwire.speech.decode import Decoder, phone_errors

TINY = Classes(("a", "a", "b", "b", SILENCE, "a"), (0, 1, 0, 1, 0, 0))


def made_up(classes: Classes, seed: int, **parameters: float) -> Decoder:
    rng = np.random.default_rng(seed)
    states, phones = len(classes.states), len(classes.phones)
    staying = rng.uniform(0.2, 0.8, states)
    bigram = rng.dirichlet(np.ones(phones), phones + 1)
    priors = rng.dirichlet(np.ones(len(classes)))
    return Decoder(
        classes,
        np.log(priors),
        np.log(staying),
        np.log1p(-staying),
        np.log(bigram),
        **parameters,
    )


def posteriors(classes: Classes, frames: int, seed: int) -> Any:
    return np.log(np.random.default_rng(seed).dirichlet(np.ones(len(classes)), frames))


def best_of_all(decoder: Decoder, log_posteriors: Any) -> list[str]:
    """Try every sequence of (state, whether the frame begins a phone)."""
    classes, scores = decoder.classes, decoder.state_scores(log_posteriors)
    states, steps = range(len(classes.states)), (False, True)
    best, said = -math.inf, []
    for way in itertools.product(itertools.product(states, steps), repeat=len(scores)):
        score, phones = score_of(decoder, scores, way)
        if score > best:
            best, said = score, phones
    return said


def score_of(decoder: Decoder, scores: Any, way: Any) -> tuple[float, list[str]]:
    states, number = decoder.classes.states, decoder.classes.phones.index
    total, phones, before = 0.0, [], None
    for frame, (state, begins) in enumerate(way):
        phone, position = states[state]
        row = -1 if before is None else number(states[before][0])
        if begins != (position == 0 and (before is None or begins)):
            return -math.inf, []
        if begins:
            last = before is None or before + 1 == len(states) or states[before + 1][1] == 0
            if not last:
                return -math.inf, []
            total += 0.0 if before is None else decoder.leave[before]
            total += decoder.bigram_scale * decoder.bigram[row, number(phone)]
            total -= decoder.phone_penalty
            phones.append(phone)
        elif before is None or state not in (before, before + 1) or states[before][0] != phone:
            return -math.inf, []
        else:
            total += decoder.stay[before] if state == before else decoder.leave[before]
        total += scores[frame, state]
        before = state
    return total, phones


@pytest.mark.parametrize("seed", range(6))
def test_all_ways_tried_agree(seed: int) -> None:
    decoder = made_up(TINY, seed, bigram_scale=0.5 + seed / 3, phone_penalty=seed / 5 - 0.4)
    for frames in (1, 2, 4):
        log_posteriors = posteriors(TINY, frames, seed)
        assert decoder.phones(log_posteriors) == best_of_all(decoder, log_posteriors)


def test_a_constant_for_each_frame_changes_nothing() -> None:
    decoder, given = made_up(TINY, 1), posteriors(TINY, 30, 1)
    assert decoder.phones(given + np.arange(30)[:, None]) == decoder.phones(given)


def test_no_frames_are_no_phones() -> None:
    assert made_up(TINY, 0).phones(np.zeros((0, len(TINY)))) == []


def test_classes_of_a_state_are_put_together() -> None:
    decoder, given = made_up(TINY, 3), posteriors(TINY, 5, 3)
    scores = decoder.state_scores(given)
    a = TINY.states.index(("a", 0))
    together = np.exp(given[:, 0]) + np.exp(given[:, 5])
    prior = np.exp(decoder.log_priors[0]) + np.exp(decoder.log_priors[5])
    np.testing.assert_allclose(scores[:, a], np.log(together / prior))


def test_probabilities_are_counted() -> None:
    alignments = [np.array([4, 4, 0, 1, 1, 1, 5, 1, 2, 3]), np.array([4, 2, 3, 3])]
    decoder = Decoder.fit(TINY, alignments)
    phones, states = TINY.phones, TINY.states
    a1, silence = states.index(("a", 1)), phones.index(SILENCE)
    assert decoder.stay[a1] == pytest.approx(math.log((2 + 1) / (4 + 2)))  # of 4 frames, 2 stay
    np.testing.assert_allclose(np.exp(decoder.stay) + np.exp(decoder.leave), 1)
    np.testing.assert_allclose(np.exp(decoder.bigram).sum(1), 1)
    assert decoder.bigram[-1].argmax() == silence
    assert decoder.bigram[phones.index("a"), phones.index("a")] > math.log(0.3)
    np.testing.assert_allclose(np.exp(decoder.log_priors).sum(), 1)


def test_clear_frames_are_heard() -> None:
    alignment = np.array([4] * 4 + [0] * 3 + [1] * 2 + [5] * 2 + [1] * 3 + [2] * 2 + [3] * 5)
    decoder = Decoder.fit(TINY, [alignment])
    clear = np.log(np.eye(len(TINY))[alignment] + 1e-6)
    assert decoder.phones(clear) == [SILENCE, "a", "a", "b"]


def test_errors_leave_out_silence() -> None:
    pytest.importorskip("kaldialign")
    assert phone_errors(["SIL", "a", "b", "c"], ["a", "SIL", "c", "d", "e"]) == (3, 3)
    assert phone_errors([], ["SIL"]) == (0, 0)


def test_openfst_agrees() -> None:
    kaldifst = pytest.importorskip("kaldifst")
    kaldi_decoder = pytest.importorskip("kaldi_decoder")
    names = [name for name in ("a", "b", "c", "d", SILENCE) for _ in range(3)]
    classes = Classes(tuple(names), (0, 1, 2) * 5)
    for seed in range(5):
        decoder = made_up(classes, seed, bigram_scale=1.5, phone_penalty=0.3)
        log_posteriors = posteriors(classes, 40, seed)
        graph = as_graph(kaldifst, decoder)
        scores = decoder.state_scores(log_posteriors).astype(np.float32)
        options = kaldi_decoder.FasterDecoderOptions(beam=1e4)
        searched = kaldi_decoder.FasterDecoder(graph, options)
        searched.decode(kaldi_decoder.DecodableCtc(scores))
        ok, best = searched.get_best_path()
        assert ok
        ok, _, outputs, _ = kaldifst.get_linear_symbol_sequence(best)
        assert ok
        heard = [classes.phones[number - 1] for number in outputs]
        assert heard == decoder.phones(log_posteriors)


def as_graph(kaldifst: Any, decoder: Decoder) -> Any:
    """The decoder as a graph: a node says which state the frame before was in."""
    classes = decoder.classes
    graph = kaldifst.StdVectorFst()
    start = graph.add_state()
    graph.start = start
    for _ in classes.states:
        graph.set_final(graph.add_state(), 0.0)

    def arc(source: int, state: int, word: int, weight: float) -> None:
        graph.add_arc(source, kaldifst.StdArc(state + 1, word, -float(weight), state + 1))

    firsts = [state for state, (_, position) in enumerate(classes.states) if position == 0]
    pairs = decoder.bigram_scale * decoder.bigram - decoder.phone_penalty
    for phone, first in enumerate(firsts):
        arc(start, first, phone + 1, pairs[-1, phone])
    for state, (name, _) in enumerate(classes.states):
        arc(state + 1, state, 0, decoder.stay[state])
        if state + 1 not in (*firsts, len(classes.states)):
            arc(state + 1, state + 1, 0, decoder.leave[state])
            continue
        row = pairs[classes.phones.index(name)]
        for phone, first in enumerate(firsts):
            arc(state + 1, first, phone + 1, decoder.leave[state] + row[phone])
    return graph
