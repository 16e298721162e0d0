"""What is counted of a corpus while it is made."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thinwire.speech.classes import SILENCE
from thinwire.speech.synth.phones import PHONES
from thinwire.speech.synth.segments import Segments, state_frames
from thinwire.speech.synth.shard import STAGES, Shard
from thinwire.speech.synth.tying import CONTEXTS, contexts_of


@dataclass
class Tally:
    """Of one part of a corpus: what is kept of its utterances for their alignments, and counts.

    Attributes:
        names: of the utterances.
        speakers: of each.
        segments: of each.
        contexts: frames of each state with its neighbours, int64 [CONTEXTS].
        left_out: utterances that could not be made.
        seconds: of one processor, for each of ``STAGES``.
    """

    names: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    segments: list[Segments] = field(default_factory=list)
    contexts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(CONTEXTS, np.int64))
    left_out: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    frames: int = 0

    def utterance(self, name: str, speaker: str, segments: Segments) -> None:
        """Count an utterance."""
        self.names.append(name)
        self.speakers.append(speaker)
        self.segments.append(segments)
        np.add.at(self.contexts, contexts_of(segments.phones), state_frames(segments))
        self.frames += int(segments.frames.sum())

    def cost(self, shard: Shard) -> None:
        """Count what a shard cost, and what it left out."""
        self.left_out += shard.left_out
        for stage, seconds in shard.seconds.items():
            self.seconds[stage] += seconds

    @property
    def silence(self) -> float:
        """Share of the frames that are silence."""
        phones = self.contexts.reshape(len(PHONES), -1).sum(axis=1)
        return float(phones[PHONES.index(SILENCE)]) / self.frames

    def phone_frames(self) -> NDArray[np.int64]:
        """Return the frames of each phone that is not silence, in order, [phones]."""
        silent = PHONES.index(SILENCE)
        spoken = [each.frames[each.phones != silent] for each in self.segments]
        return np.concatenate([*spoken, np.zeros(0, np.uint16)]).astype(np.int64)
