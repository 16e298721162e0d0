"""Folders of features and alignments as Kaldi writes them: frames by number."""

from thinwire.data.kaldi.corpus import FEATURES
from thinwire.data.kaldi.folder import open_kaldi
from thinwire.data.kaldi.inspection import inspect_kaldi

__all__ = ["FEATURES", "inspect_kaldi", "open_kaldi"]
