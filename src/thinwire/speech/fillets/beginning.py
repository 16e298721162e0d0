"""The first alignments: words spread evenly over what is loud, silence where it is quiet."""

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.fillets.chain import POSITIONS
from thinwire.speech.fillets.phones import Words

_LOUD = 95.0  # percentile of the energy that counts as loud
_QUIETER = 5.0  # nats below it that count as silence
_SMOOTH = 5  # frames
_LEAST_PAUSE = 12  # frames; closures of plosives are shorter


def first_places(words: Words, log_mel: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the place in the chain of an utterance of each frame, int64 [frames].

    Args:
        words: of the utterance.
        log_mel: its features, not normalised, [frames, 40].
    """
    segments = _loud_segments(log_mel.mean(1), POSITIONS * sum(map(len, words)))
    lengths = np.array([end - begin for begin, end in segments])
    phones = np.array([len(word) for word in words])
    first_words = _share_out(phones, lengths)
    places = np.full(len(log_mel), -1, np.int64)
    for (begin, end), first, last in zip(segments, first_words[:-1], first_words[1:], strict=True):
        inside = _places_of_words(phones, first, last)
        places[begin:end] = inside[np.arange(end - begin) * len(inside) // (end - begin)]
    return _fill_pauses(places, POSITIONS * np.concatenate([[0], np.cumsum(phones + 1)]))


def _loud_segments(energy: NDArray[np.float32], least: int) -> list[tuple[int, int]]:
    """Return begin and end of the parts between pauses, which have frames for all states."""
    smooth = np.convolve(np.pad(energy, _SMOOTH // 2, "edge"), np.ones(_SMOOTH) / _SMOOTH, "valid")
    quiet = smooth < np.percentile(energy, _LOUD) - _QUIETER
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    frames, segments, begin = len(energy), [], 0
    for first, last in edges.reshape(-1, 2).tolist():
        at_an_end = first == 0 or last == frames
        if last - first < (POSITIONS if at_an_end else _LEAST_PAUSE):
            continue
        if first > begin:
            segments.append((begin, first))
        begin = last
    if begin < frames:
        segments.append((begin, frames))
    enough = sum(end - begin for begin, end in segments) >= least
    return segments if enough else [(0, frames)]


def _share_out(phones: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[int]:
    """Return the first word of each segment, and the number of words behind them.

    Phones are taken to be of equal length; a segment takes no more words than fit into its frames,
    if that is possible.
    """
    ends = np.concatenate([[0], np.cumsum(phones)])
    pace = lengths.sum() / ends[-1]
    best = np.full(len(ends), np.inf)
    best[0] = 0.0
    came_from = []
    for length in lengths:
        expected = (ends[None, :] - ends[:, None]) * pace  # frames of the words from row to column
        cost = (expected - length) ** 2 / length + 1e6 * (expected / pace * POSITIONS > length)
        cost[expected < 0] = np.inf
        total = best[:, None] + cost
        came_from.append(total.argmin(0))
        best = total.min(0)
    found = [len(phones)]
    for sources in reversed(came_from):
        found.append(int(sources[found[-1]]))
    return found[::-1]


def _places_of_words(phones: NDArray[np.int64], first: int, last: int) -> NDArray[np.int64]:
    """Return the places of some words in a chain, without the silences between them."""
    before = POSITIONS * (first + 1 + int(phones[:first].sum()))
    found = []
    for word in range(first, last):
        found.append(before + np.arange(POSITIONS * phones[word]))
        before += POSITIONS * (int(phones[word]) + 1)
    return np.concatenate(found) if found else np.array([-1])


def _fill_pauses(places: NDArray[np.int64], silences: NDArray[np.int64]) -> NDArray[np.int64]:
    """Put frames without a place into the silence behind the place before them.

    Args:
        places: of frames; negative for those without one.
        silences: the first place of each silence.
    """
    quiet = places < 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    filled = places.copy()
    for first, last in edges.reshape(-1, 2).tolist():
        behind = -1 if first == 0 else filled[first - 1]
        silence = silences[np.searchsorted(silences, behind)]
        filled[first:last] = silence + np.arange(last - first) * POSITIONS // (last - first)
    return filled
