"""Rounds of alignment: a model is fitted to the labels, and labels are found anew with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.decode import Decoder, phone_errors
from thinwire.speech.fillets.aligning import Chains, Scores, chunks
from thinwire.speech.fillets.beginning import first_places
from thinwire.speech.fillets.chain import STATES, make_chain
from thinwire.speech.fillets.corpus import Speech, cepstra
from thinwire.speech.fillets.gaussians import Mixtures, divide, fit
from thinwire.speech.fillets.network import Network
from thinwire.speech.fillets.stages import Arrays
from thinwire.speech.fillets.tying import Tying, grow, untied

# Chosen among five pairs on half of the held-out utterances, after two rounds of networks; phone
# errors of these utterances are a little too good for it.
BIGRAM_SCALE = 2.0
PHONE_PENALTY = -2.0

Share = Callable[[float], None]


@dataclass(frozen=True)
class Part:
    """A part of the corpus, as rounds need it.

    Attributes:
        speech: with normalised log mel energies.
        cepstra: of it, [frames, 39].
        chains: of its utterances.
    """

    speech: Speech
    cepstra: NDArray[np.float32]
    chains: Chains


def make_part(speech: Speech) -> Part:
    """Return a part of the corpus, given with normalised log mel energies."""
    chains = [make_chain(utterance.words) for utterance in speech.utterances]
    return Part(speech, cepstra(speech), Chains(chains, speech.begins))


def begin(part: Part, log_mel: NDArray[np.float32]) -> Arrays:
    """Return the first alignments: {"places": of each frame}.

    Args:
        part: the training part.
        log_mel: its features, not normalised.
    """
    speech = part.speech
    places = [
        first_places(utterance.words, log_mel[speech.slice_of(number)])
        for number, utterance in enumerate(speech.utterances)
    ]
    return {"places": np.concatenate(places)}


def gaussian_round(
    train: Part, test: Part, before: Mapping[str, NDArray[np.generic]], split: bool, tell: Share
) -> Arrays:
    """Return labels found with mixtures of Gaussians.

    Args:
        train: the training part.
        test: the held-out part.
        before: the result of the round before, or of `begin`.
        split: whether the mixtures of the round before are divided first.
        tell: told which part is done.
    """
    places = np.asarray(before["places"], np.int64)
    states = train.chains.states(places)
    start = None
    if "means" in before:
        start = _mixtures(before)
        start = divide(start) if split else start
    mixtures = fit(train.cepstra, states, STATES, start)
    priors = np.log(np.bincount(states, minlength=STATES) + 1.0)
    priors -= np.logaddexp.reduce(priors)
    tying = untied()
    found = _realigned(
        train, places, lambda part: mixtures.scores(train.cepstra[part]), tying, tell
    )
    posteriors = mixtures.scores(test.cepstra) + priors.astype(np.float32)
    found |= phone_error(_decoder(train, places, tying), posteriors, test.speech)
    return found | {
        "weights": mixtures.weights,
        "means": mixtures.means,
        "variances": mixtures.variances,
    }


def network_round(
    train: Part,
    test: Part,
    before: Mapping[str, NDArray[np.generic]],
    tying: Tying,
    seed: int,
    tell: Share,
) -> Arrays:
    """Return labels found with a network, which begins with the hidden layers of the one before.

    Args:
        train: the training part.
        test: the held-out part.
        before: the result of the round before.
        tying: the classes that the network tells apart.
        seed: of the network.
        tell: told which part is done.
    """
    places = np.asarray(before["places"], np.int64)
    labels = labels_of(train, places, tying)
    network = Network(train.speech.frames.shape[1], int(tying.table.max()) + 1, seed)
    network.load(before, body_only=True)
    speech = train.speech
    network.train(speech.frames, speech.begins, labels, lambda share: tell(share * 0.6))
    scores = network_scores(network, speech, labels)
    found = _realigned(train, places, scores, tying, lambda share: tell(0.6 + share * 0.4))
    posteriors = network.log_posteriors(test.speech.frames, test.speech.begins)
    found |= phone_error(_decoder(train, places, tying), posteriors, test.speech)
    return found | network.arrays() | {"labels": labels}


def tie(train: Part, before: Mapping[str, NDArray[np.generic]], wanted: int) -> Arrays:
    """Return classes for states in context: {"table": as `Tying` has it}."""
    places = np.asarray(before["places"], np.int64)
    left, right = train.chains.contexts(places)
    tying = grow(train.cepstra, train.chains.states(places), left, right, wanted)
    return {"table": tying.table}


def labels_of(part: Part, places: NDArray[np.int64], tying: Tying) -> NDArray[np.int64]:
    """Return the class of each frame, int64 [frames]."""
    left, right = part.chains.contexts(places)
    return np.asarray(tying.table[part.chains.states(places), left, right])


def network_scores(network: Network, speech: Speech, labels: NDArray[np.int64]) -> Scores:
    """Return a function that scores frames of whole utterances by a network.

    Args:
        network: its posteriors are divided by the frequencies of classes.
        speech: what the frames are of.
        labels: the classes that the network was trained on.
    """
    counts = np.bincount(labels, minlength=network.classes) + 1.0
    priors = np.log(counts / counts.sum()).astype(np.float32)

    def scores(part: slice) -> NDArray[np.float32]:
        first, last = np.searchsorted(speech.begins, [part.start, part.stop])
        begins = speech.begins[first : last + 1] - part.start
        return np.asarray(network.log_posteriors(speech.frames[part], begins) - priors)

    return scores


def network_of(stored: Mapping[str, NDArray[np.generic]], tying: Tying, part: Part) -> Network:
    """Return the network of a round.

    Args:
        stored: the result of the round.
        tying: its classes.
        part: any part of the corpus.
    """
    network = Network(part.speech.frames.shape[1], int(tying.table.max()) + 1, 0)
    network.load(stored, body_only=False)
    return network


def heard(network: Network, speech: Speech) -> NDArray[np.int64]:
    """Return the most probable class of each frame, int64 [frames]."""
    found = []
    for first, last in chunks(speech.begins):
        part = slice(int(speech.begins[first]), int(speech.begins[last]))
        begins = speech.begins[first : last + 1] - part.start
        found.append(network.log_posteriors(speech.frames[part], begins).argmax(1))
    return np.concatenate(found)


def phone_error(
    decoder: Decoder, posteriors: NDArray[np.float32], speech: Speech
) -> dict[str, NDArray[np.generic]]:
    """Return {"errors", "phones"}: how many phones are heard wrongly and how many there are."""
    total = np.zeros(2, np.int64)
    for number, utterance in enumerate(speech.utterances):
        heard = decoder.phones(posteriors[speech.slice_of(number)])
        total += phone_errors(utterance.phones, heard)
    return {"errors": total[:1], "phones": total[1:]}


def _realigned(
    train: Part,
    places: NDArray[np.int64],
    scores: Scores,
    tying: Tying,
    tell: Share,
) -> Arrays:
    chains = train.chains
    found = chains.align(scores, chains.transitions(places), tell, tying.of_chain)
    moved = (chains.states(found.places) != chains.states(places)).mean()
    return {
        "places": found.places,
        "score": np.array([found.score]),
        "moved": np.array([moved]),
    }


def _decoder(train: Part, places: NDArray[np.int64], tying: Tying) -> Decoder:
    labels = labels_of(train, places, tying)
    alignments: Sequence[NDArray[np.int64]] = np.split(labels, train.speech.begins[1:-1])
    return Decoder.fit(tying.classes, alignments, BIGRAM_SCALE, PHONE_PENALTY)


def _mixtures(stored: Mapping[str, NDArray[np.generic]]) -> Mixtures:
    weights, means, variances = (
        np.asarray(stored[name], np.float64) for name in ("weights", "means", "variances")
    )
    return Mixtures(weights, means, variances)
