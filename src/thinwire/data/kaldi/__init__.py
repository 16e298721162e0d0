"""Folders of features and alignments as Kaldi writes them: frames by number."""

from thinwire.data.kaldi.corpus import FEATURES
from thinwire.data.kaldi.folder import open_kaldi, refuse
from thinwire.data.kaldi.index import read_corpus
from thinwire.data.kaldi.inspection import inspect_kaldi
from thinwire.data.kaldi.utterances import Utterances
from thinwire.data.kaldi.writing import ArkWriter

__all__ = [
    "FEATURES",
    "ArkWriter",
    "Utterances",
    "inspect_kaldi",
    "open_kaldi",
    "read_corpus",
    "refuse",
]
