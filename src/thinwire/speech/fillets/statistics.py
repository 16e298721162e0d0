"""The page that says what the corpus is and how good its labels are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.classes import SILENCE, Classes
from thinwire.speech.features import FRAMES_A_SECOND

LONG_MS = 300
"""Phones that last longer are doubtful."""


@dataclass(frozen=True)
class PartFigures:
    """Figures of a part of the corpus.

    Attributes:
        utterances: how many.
        minutes: of sound.
        cut_minutes: of silence that was cut off at the ends of utterances.
        silence: share of the frames.
        long: share of the phones, without silence, that last more than 300 ms.
        median_ms: median duration of a phone, without silence.
        entropy: of the classes, in bits.
        frames_a_class: tenth percentile, median and ninetieth percentile.
        accuracy: share of the frames whose class the last network finds.
    """

    utterances: int
    minutes: float
    cut_minutes: float
    silence: float
    long: float
    median_ms: float
    entropy: float
    frames_a_class: tuple[int, int, int]
    accuracy: float


@dataclass(frozen=True)
class RoundFigures:
    """Figures of a round of alignment.

    Attributes:
        name: of the round.
        moved: share of the frames that change their state.
        score: logarithm of the likelihood, a frame.
        error: phone error in the held-out rooms of the model that aligns in this round.
    """

    name: str
    moved: float
    score: float
    error: float


def measure(
    alignments: Sequence[NDArray[np.integer]], classes: Classes, recorded: int, accuracy: float
) -> PartFigures:
    """Return the figures of a part.

    Args:
        alignments: the classes of the frames of each utterance.
        classes: of all parts.
        recorded: frames before silence was cut off.
        accuracy: share of the frames whose class the last network finds.
    """
    frames = np.concatenate(alignments)
    silent = np.array([phone == SILENCE for phone in classes.phone_of])
    durations = np.concatenate([_durations(each, classes, silent) for each in alignments])
    counts = np.bincount(frames, minlength=len(classes))
    shares = counts[counts > 0] / len(frames)
    spread = np.percentile(counts, [10, 50, 90]).astype(int).tolist()
    to_ms = 1000 / FRAMES_A_SECOND
    return PartFigures(
        utterances=len(alignments),
        minutes=len(frames) / FRAMES_A_SECOND / 60,
        cut_minutes=(recorded - len(frames)) / FRAMES_A_SECOND / 60,
        silence=float(silent[frames].mean()),
        long=float((durations * to_ms > LONG_MS).mean()),
        median_ms=float(np.median(durations) * to_ms),
        entropy=float(-(shares * np.log2(shares)).sum()),
        frames_a_class=(spread[0], spread[1], spread[2]),
        accuracy=accuracy,
    )


def _durations(
    alignment: NDArray[np.integer], classes: Classes, silent: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return how many frames each phone of an utterance lasts, without silence."""
    begins = classes.begins(alignment)
    lengths = np.diff(np.append(begins, len(alignment)))
    return np.asarray(lengths[~silent[alignment[begins]]])


def page(
    parts: Mapping[str, PartFigures], rounds: Sequence[RoundFigures], remarks: Sequence[str]
) -> str:
    """Return the page, as Markdown.

    Args:
        parts: figures of the parts by name.
        rounds: of the rounds, in order.
        remarks: what else there is to say, a sentence each.
    """
    lines = [
        "# Czech voices of Fish Fillets NG",
        "",
        "Speech of Debian's packages fillets-ng-data-cs and fillets-ng-data, made into frames and",
        "classes of frames by `thinwire data fillets`.",
        "",
        "- **This is essentially two speakers**, who play the two main roles; `other` holds all",
        "  other roles. Tests are on the same two voices in rooms that training has not seen.",
        "- **Licence:** the packages are under the GNU General Public License, version 2, and it",
        "  applies to the data derived from them, which was built on this machine.",
        "- Labels come from alignment to phones that eSpeak NG tells from the text. Nobody has",
        "  checked them by hand.",
        *(f"- {remark}" for remark in remarks),
        "",
        "## Parts",
        "",
        *_parts_table(parts),
        "",
        "Frames a class: tenth percentile, median and ninetieth percentile. Frame accuracy is that",
        "of the last network on its own alignments, which flatters it.",
        "",
        "## Rounds",
        "",
        *_rounds_table(rounds),
        "",
        "Moved: frames that change their state. Phone error: of the held-out rooms, decoded by a",
        "bigram of phones with the model that aligns in this round; silence does not count.",
        "",
    ]
    return "\n".join(lines)


def _parts_table(parts: Mapping[str, PartFigures]) -> list[str]:
    rows = [
        ("utterances", [f"{part.utterances}" for part in parts.values()]),
        ("minutes", [f"{part.minutes:.1f}" for part in parts.values()]),
        ("minutes of silence cut off", [f"{part.cut_minutes:.1f}" for part in parts.values()]),
        ("silence", [f"{part.silence:.1%}" for part in parts.values()]),
        ("median duration of a phone", [f"{part.median_ms:.0f} ms" for part in parts.values()]),
        (f"phones longer than {LONG_MS} ms", [f"{part.long:.1%}" for part in parts.values()]),
        ("entropy of the classes", [f"{part.entropy:.2f} bits" for part in parts.values()]),
        ("frames a class", [" / ".join(map(str, p.frames_a_class)) for p in parts.values()]),
        ("frame accuracy", [f"{part.accuracy:.1%}" for part in parts.values()]),
    ]
    head = ["| | " + " | ".join(parts) + " |", "|---" * (len(parts) + 1) + "|"]
    return head + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]


def _rounds_table(rounds: Sequence[RoundFigures]) -> list[str]:
    head = ["| round | moved | log-likelihood a frame | phone error |", "|---|---|---|---|"]
    return head + [
        f"| {each.name} | {each.moved:.1%} | {each.score:.2f} | {each.error:.1%} |"
        for each in rounds
    ]
