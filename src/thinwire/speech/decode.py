"""The phones that a network hears: the best way through all phones, one after the other.

Every phone is a chain of states, those of `Classes`, and any phone may follow any other, with the
probability of the pair (a bigram). The way begins with a phone and may end anywhere in one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinwire.needed import needed
from thinwire.speech.classes import SILENCE, Classes
from thinwire.speech.viterbi import NEVER

_SMOOTHING = 5.0  # pairs that are thought up for every phone, shared out as phones are frequent


@dataclass(frozen=True)
class Decoder:
    """Finds the most probable phones of an utterance.

    Attributes:
        classes: of the network.
        log_priors: logarithms of the frequencies of classes, float64 [classes].
        stay: logarithm of the probability of staying in each of ``classes.states``, [states].
        leave: of leaving it, [states].
        bigram: logarithm of the probability of each phone behind each, in the order of
            ``classes.phones``, [phones + 1, phones]; the last row is that of the first phones.
        bigram_scale: multiplies ``bigram``. A network's scores of neighbouring frames say much
            the same, which one scores as if they were independent; a larger scale makes up for it.
        phone_penalty: subtracted for each phone; a larger one makes phones fewer and longer.
    """

    classes: Classes
    log_priors: NDArray[np.float64]
    stay: NDArray[np.float64]
    leave: NDArray[np.float64]
    bigram: NDArray[np.float64]
    bigram_scale: float = 1.0
    phone_penalty: float = 0.0

    @classmethod
    def fit(
        cls,
        classes: Classes,
        alignments: Iterable[NDArray[np.integer]],
        bigram_scale: float = 1.0,
        phone_penalty: float = 0.0,
    ) -> "Decoder":
        """Return a decoder with probabilities counted in alignments and smoothed.

        Args:
            classes: of the alignments.
            alignments: the classes of the frames of each utterance.
            bigram_scale: see the attributes.
            phone_penalty: see the attributes.
        """
        states, phones = len(classes.states), len(classes.phones)
        number = {phone: n for n, phone in enumerate(classes.phones)}
        of_classes = np.ones(len(classes))
        stays, frames = np.ones(states), np.full(states, 2.0)
        pairs = np.zeros((phones + 1, phones))
        for alignment in alignments:
            begins = classes.begins(alignment)
            of_classes += np.bincount(alignment, minlength=len(classes))
            in_states = classes.state_of[alignment]
            frames += np.bincount(in_states, minlength=states)
            same = np.diff(in_states) == 0
            same[begins[1:] - 1] = False
            stays += np.bincount(in_states[:-1][same], minlength=states)
            said = [number[phone] for phone in classes.phones_in(alignment)]
            np.add.at(pairs, ([phones, *said[:-1]], said), 1.0)
        staying = stays / frames
        single = (pairs.sum(0) + 1) / (pairs.sum() + phones)
        bigram = (pairs + _SMOOTHING * single) / (pairs.sum(1, keepdims=True) + _SMOOTHING)
        return cls(
            classes,
            np.log(of_classes / of_classes.sum()),
            np.log(staying),
            np.log1p(-staying),
            np.log(bigram),
            bigram_scale,
            phone_penalty,
        )

    def phones(self, log_posteriors: NDArray[np.floating]) -> list[str]:
        """Return the phones of an utterance, silence included.

        Args:
            log_posteriors: logarithms of the probabilities of classes, up to a constant for each
                frame, [frames, classes].
        """
        if not len(log_posteriors):
            return []
        entered = self._entered(self.state_scores(log_posteriors))
        return [self.classes.phones[phone] for phone in entered]

    def state_scores(self, log_posteriors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return how well frames suit states: the logarithm of probability over frequency.

        Args:
            log_posteriors: as `phones` takes them.

        Returns:
            float64 [frames, states], in the order of ``classes.states``.
        """
        states = len(self.classes.states)
        order = np.argsort(self.classes.state_of, kind="stable")
        edges = np.searchsorted(self.classes.state_of[order], np.arange(states))
        probabilities = np.asarray(log_posteriors, np.float64)[:, order]
        priors = np.logaddexp.reduceat(self.log_priors[order], edges)
        return np.asarray(np.logaddexp.reduceat(probabilities, edges, axis=1) - priors)

    def _entered(self, scores: NDArray[np.float64]) -> list[int]:
        """Return the numbers of the phones on the best way through states.

        Args:
            scores: of frames for states, [frames, states].
        """
        firsts = np.flatnonzero([position == 0 for _, position in self.classes.states])
        lasts = np.append(firsts[1:], len(self.classes.states)) - 1
        pairs = self.bigram_scale * self.bigram - self.phone_penalty
        frames, states = scores.shape
        best = np.full(states, NEVER)
        best[firsts] = pairs[-1] + scores[0, firsts]
        came_from = np.empty((frames, states), np.int32)
        own = np.arange(states, dtype=np.int32)
        entering = np.zeros((frames, len(firsts)), bool)
        arriving, source = np.empty(states), np.empty(states, np.int32)
        for frame in range(1, frames):
            leaving, staying = best + self.leave, best + self.stay
            arriving[1:], source[1:] = leaving[:-1], own[:-1]
            across = leaving[lasts][:, None] + pairs[:-1]
            before = across.argmax(0)
            arriving[firsts], source[firsts] = across[before, range(len(firsts))], lasts[before]
            moved = arriving > staying
            came_from[frame] = np.where(moved, source, own)
            entering[frame] = moved[firsts]
            best = np.where(moved, arriving, staying) + scores[frame]
        return _way_back(int(best.argmax()), came_from, entering, firsts)


def _way_back(
    state: int,
    came_from: NDArray[np.int32],
    entering: NDArray[np.bool_],
    firsts: NDArray[np.int64],
) -> list[int]:
    """Return the numbers of the phones that were entered on the way to a state."""
    phone_of = {int(first): phone for phone, first in enumerate(firsts)}
    found = []
    for frame in range(len(came_from) - 1, 0, -1):
        phone = phone_of.get(state)
        if phone is not None and entering[frame, phone]:
            found.append(phone)
        state = int(came_from[frame, state])
    found.append(int(np.searchsorted(firsts, state, "right")) - 1)
    return found[::-1]


def phone_errors(reference: Sequence[str], decoded: Sequence[str]) -> tuple[int, int]:
    """Return how many phones are wrong, missing or too many, and how many there should be.

    Silence is left out of both.

    Raises:
        MissingPackageError: kaldialign is not installed.
    """
    wanted = [phone for phone in reference if phone != SILENCE]
    heard = [phone for phone in decoded if phone != SILENCE]
    errors: int = needed("kaldialign").edit_distance(wanted, heard)["total"]
    return errors, len(wanted)
