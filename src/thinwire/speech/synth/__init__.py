"""Synthetic speech that scales: any number of hours by many voices, with exact labels.

eSpeak NG speaks sentences and says at which sample each sound begins. `shard` makes utterances of
them, `tying` the classes of frames, and `corpus` the folders.
"""

from thinwire.speech.synth.corpus import check, make_corpus
from thinwire.speech.synth.settings import Settings

__all__ = ["Settings", "check", "make_corpus"]
