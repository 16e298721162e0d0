"""Chains, the first alignments, Gaussians and the networks' inputs."""

import numpy as np
import pytest

from thinwire.speech.classes import SILENCE
from thinwire.speech.fillets.aligning import Chains
from thinwire.speech.fillets.beginning import first_places
from thinwire.speech.fillets.chain import NAMES, POSITIONS, STATES, make_chain
from thinwire.speech.fillets.corpus import Speech, Utterance
from thinwire.speech.fillets.dialogues import Line
from thinwire.speech.fillets.gaussians import divide, fit
from thinwire.speech.fillets.network import SPLICE, Network, _neighbours
from thinwire.speech.fillets.tying import untied
from thinwire.speech.fillets.writing import kept_frames

WORDS = (("t", "a"), ("m",))
HALF = np.full(STATES, np.log(0.5))


def said(places: np.ndarray, words: tuple[tuple[str, ...], ...] = WORDS) -> list[str]:
    """The phones of places, once for each time they are entered."""
    states = make_chain(words).states[places]
    entered = np.flatnonzero(np.diff(places, prepend=-1) != 0)
    return [NAMES[state // POSITIONS] for state in states[entered] if state % POSITIONS == 0]


def test_a_chain_has_silence_around_words() -> None:
    chain = make_chain(WORDS)
    phones = [NAMES[state // POSITIONS] for state in chain.states[::POSITIONS]]
    assert phones == [SILENCE, "t", "a", SILENCE, "m", SILENCE]
    left = [NAMES[phone] for phone in chain.left[::POSITIONS]]
    right = [NAMES[phone] for phone in chain.right[::POSITIONS]]
    assert left == [SILENCE, SILENCE, "t", SILENCE, "a", SILENCE]
    assert right == [SILENCE, "a", "m", SILENCE, SILENCE, SILENCE]


@pytest.mark.parametrize(
    "spoken",
    [
        [SILENCE, "t", "a", SILENCE, "m", SILENCE],
        ["t", "a", "m"],
        ["t", "a", SILENCE, "m"],
        [SILENCE, "t", "a", "m"],
        ["t", "a", "m", SILENCE],
    ],
)
def test_every_silence_may_be_left_out(spoken: list[str]) -> None:
    chain = make_chain(WORDS)
    states = [
        POSITIONS * NAMES.index(name) + position
        for name in spoken
        for position in range(POSITIONS)
        for _ in range(2)
    ]
    scores = np.where(np.arange(STATES) == np.array(states)[:, None], 0.0, -9.0)
    scores = scores[:, chain.states].astype(np.float32)
    stay = HALF[: len(chain.states)]
    places, total = chain.align(scores, stay, stay)
    assert said(places) == spoken
    np.testing.assert_array_equal(chain.states[places], states)
    assert total == pytest.approx(len(states) * np.log(0.5) - np.log(0.5), abs=0.7)


def test_the_beginning_puts_pauses_between_words() -> None:
    words = (("a", "m", "a"), ("t", "a", "t"), ("m", "a", "m", "a", "m", "a"))
    energy = np.concatenate([np.full(n, e) for n, e in ((20, 1), (60, 20), (30, 1), (60, 20))])
    log_mel = np.repeat(energy[:, None], 40, 1).astype(np.float32)
    places = first_places(words, log_mel)
    states = make_chain(words).states[places]
    silent = states // POSITIONS == NAMES.index(SILENCE)
    assert silent[:18].all()
    assert not silent[24:78].any()
    assert silent[84:108].all()
    assert not silent[112:].any()
    assert said(places, words)[1:7] == ["a", "m", "a", "t", "a", "t"]
    assert (np.diff(places) >= 0).all()


def test_an_utterance_with_hardly_any_sound_is_spread_evenly() -> None:
    log_mel = np.full((30, 40), -10.0, np.float32)
    log_mel[10:12] = 20.0
    places = first_places(WORDS, log_mel)
    assert said(places) == ["t", "a", "m"]


def test_alignment_finds_its_own_states_again() -> None:
    rng = np.random.default_rng(0)
    chains = [make_chain(WORDS), make_chain((("a",),))]
    ways = [np.repeat(np.arange(len(chain.states)), 4) for chain in chains]
    begins = np.cumsum([0, *map(len, ways)])
    corpus, places = Chains(chains, begins), np.concatenate(ways)
    states = corpus.states(places)
    frames = (np.eye(STATES, dtype=np.float32)[states] * 5).astype(np.float32)
    frames += rng.normal(size=frames.shape).astype(np.float32)
    scores = np.asarray(frames, np.float32)
    transitions = corpus.transitions(places)
    found = corpus.align(lambda part: scores[part], transitions, lambda _: None, untied().of_chain)
    np.testing.assert_array_equal(found.places, places)
    silence = POSITIONS * NAMES.index(SILENCE)
    frames_of, stays = (states == silence).sum(), 3 * (states == silence).sum() / 4
    assert transitions.stay[silence] == pytest.approx(np.log((stays + 1) / (frames_of + 2)))


def test_mixtures_learn_two_heaps() -> None:
    rng = np.random.default_rng(0)
    heaps = np.concatenate([rng.normal(-3, 1, (300, 2)), rng.normal(3, 0.5, (100, 2))])
    frames, states = heaps.astype(np.float32), np.zeros(400, np.int64)
    one = fit(frames, states, 2)
    np.testing.assert_allclose(one.means[0, 0], heaps.mean(0), atol=1e-4)
    np.testing.assert_allclose(one.variances[0, 0], heaps.var(0), rtol=1e-4)
    two = divide(one)
    for _ in range(20):
        two = fit(frames, states, 2, two)
    order = two.means[0, :, 0].argsort()
    np.testing.assert_allclose(two.weights[0, order], [0.75, 0.25], atol=0.02)
    np.testing.assert_allclose(two.means[0, order], [[-3, -3], [3, 3]], atol=0.2)
    assert two.scores(frames)[:, 0].mean() > one.scores(frames)[:, 0].mean()


def test_neighbours_stay_in_their_utterance() -> None:
    found = _neighbours(np.array([0, 3, 5])).numpy()
    assert found.shape == (5, 2 * SPLICE + 1)
    np.testing.assert_array_equal(found[1], [0, 0, 0, 0, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(found[3], [3, 3, 3, 3, 3, 4, 4, 4, 4])


def test_a_network_learns_and_is_stored() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 3, 800), 5)
    frames = (np.eye(3, 4)[labels] * 3 + rng.normal(size=(4000, 4))).astype(np.float32)
    begins = np.array([0, 2000, 4000])
    network = Network(4, 3, seed=1)
    for _ in range(3):
        network.train(frames, begins, labels, lambda _: None)
    found = network.log_posteriors(frames, begins)
    assert (found.argmax(1) == labels).mean() > 0.9
    again = Network(4, 3, seed=2)
    again.load(network.arrays(), body_only=False)
    np.testing.assert_array_equal(again.log_posteriors(frames, begins), found)
    body = Network(4, 5, seed=2)
    body.load(network.arrays(), body_only=True)
    assert body.classes == 5


def test_long_silence_at_the_ends_is_cut_off() -> None:
    classes = untied().classes
    silence, spoken = POSITIONS * NAMES.index(SILENCE), 0
    first = [silence] * 50 + [spoken] * 5 + [silence] * 60 + [spoken] + [silence] * 3
    second = [spoken] + [silence] * 21
    labels = np.array(first + second)
    line = Line("city", "a", "big", "Ano")
    utterances = (Utterance(line, "big", WORDS), Utterance(line, "big", WORDS))
    frames = np.arange(len(labels), dtype=np.float32)[:, None]
    speech = Speech(utterances, frames, np.array([0, len(first), len(labels)]))
    kept = kept_frames(speech, labels, classes)
    np.testing.assert_array_equal(np.flatnonzero(~kept), [*range(30), len(labels) - 1])
    cut = speech.cut(kept)
    np.testing.assert_array_equal(cut.begins, [0, len(first) - 30, len(labels) - 31])
    np.testing.assert_array_equal(cut.frames, frames[kept])
