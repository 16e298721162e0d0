"""The page statistics.md of a synthetic corpus."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.features import FRAMES_A_SECOND
from thinwire.speech.synth.settings import Settings
from thinwire.speech.synth.tally import Tally
from thinwire.speech.synth.tying import STATES, Tying

TITLE = "# Synthetic speech by thinwire"
_MEANING = (
    "Durations are those of phones other than silence. Entropy is that of the frames' classes."
)
_HOUR = 3600 * FRAMES_A_SECOND


def unfinished_page(settings: Settings, sentences: int) -> str:
    """Return the page that stands until the corpus is finished, and marks the folder as one."""
    return "\n".join([TITLE, "", "Not finished.", "", *_settings(settings, sentences), ""])


def page(
    settings: Settings, sentences: int, parts: dict[str, Tally], tying: Tying, seconds: float
) -> str:
    """Return the page.

    Only the part under "Time" is not settled by the settings.

    Args:
        settings: the user's.
        sentences: how many there are to speak.
        parts: the counts of "train" and "test".
        tying: the classes.
        seconds: that the corpus took.
    """
    rows = [_row(part, tally, tying) for part, tally in parts.items()]
    lines = [TITLE, "", *_settings(settings, sentences), "", *_table(rows), "", _MEANING, ""]
    return "\n".join([*lines, *_time(parts.values(), seconds), ""])


def entropy(frames: NDArray[np.int64]) -> float:
    """Return the entropy of classes with so many frames, in bits.

    >>> entropy(np.array([2, 1, 1, 0]))
    1.5
    """
    shares = frames[frames > 0] / frames.sum()
    return float(-(shares * np.log2(shares)).sum())


def _settings(settings: Settings, sentences: int) -> list[str]:
    text = "Brown corpus" if settings.text is None else settings.text.name
    return [
        f"- hours: {settings.train_hours:g} to train on, {settings.held_out_hours:g} to test on",
        f"- text: {text}, {sentences} sentences",
        f"- classes: at most {settings.classes}",
        f"- noise: {settings.noise}",
        f"- seed: {settings.seed}",
    ]


def _row(part: str, tally: Tally, tying: Tying) -> list[tuple[str, str]]:
    lengths = tally.phone_frames()
    ms = 1000 // FRAMES_A_SECOND
    classes = np.bincount(tying.class_of, tally.contexts, minlength=len(tying.phones))
    frames = classes.astype(np.int64)
    return [
        ("", part),
        ("hours", f"{tally.frames / _HOUR:.3f}"),
        ("utterances", str(len(tally.names))),
        ("left out", str(tally.left_out)),
        ("speakers (accent and voice)", str(len(set(tally.speakers)))),
        ("frames", str(tally.frames)),
        ("silence, % of frames", f"{100 * tally.silence:.1f}"),
        ("phones", str(len(lengths))),
        ("phone duration, mean in ms", f"{ms * lengths.mean():.0f}"),
        ("phone duration, median in ms", f"{ms * np.median(lengths):.0f}"),
        (f"phones of {STATES} frames, the least, %", f"{100 * np.mean(lengths == STATES):.1f}"),
        ("classes", str(len(frames))),
        ("classes with frames", str(int((frames > 0).sum()))),
        ("entropy, bits", f"{entropy(frames):.2f}"),
    ]


def _table(columns: list[list[tuple[str, str]]]) -> list[str]:
    rows = [
        [columns[0][number][0], *(column[number][1] for column in columns)]
        for number in range(len(columns[0]))
    ]
    rows.insert(1, ["---"] * len(rows[0]))
    return [f"| {' | '.join(row)} |" for row in rows]


def _time(parts: Iterable[Tally], seconds: float) -> list[str]:
    tallies = list(parts)
    hours = sum(tally.frames for tally in tallies) / _HOUR
    stages = tallies[0].seconds
    costs = {stage: sum(tally.seconds[stage] for tally in tallies) / hours for stage in stages}
    return [
        "## Time",
        "",
        f"{seconds:.1f} s, {seconds / 3600 / hours:.4f} of the speech's. An hour of speech took "
        "these seconds of a processor:",
        "",
        *(f"- {stage}: {cost:.1f}" for stage, cost in costs.items()),
    ]
