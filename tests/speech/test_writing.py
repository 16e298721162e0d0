"""Ark files that are written, against kaldiio and our own reader."""

from pathlib import Path

import kaldiio
import numpy as np
import pytest

from thinwire.data.kaldi import ArkWriter, read_corpus, refuse
from thinwire.files import FileError


def test_kaldiio_reads_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    matrices = {f"u{n}": rng.normal(size=(n, 3)).astype(np.float32) for n in (1, 4, 7)}
    vectors = {name: np.arange(len(values)) for name, values in matrices.items()}
    with ArkWriter(tmp_path, "feats") as features, ArkWriter(tmp_path, "ali") as alignments:
        for name in matrices:
            features.matrix(name, matrices[name])
            alignments.vector(name, vectors[name])
    monkeypatch.chdir(tmp_path)  # paths in an scp file begin in the current folder
    for written, wanted in (("feats", matrices), ("ali", vectors)):
        read = dict(kaldiio.load_scp(f"{written}.scp").items())
        assert read.keys() == wanted.keys()
        assert all(np.array_equal(read[name], wanted[name]) for name in wanted)
    corpus = read_corpus(tmp_path, refuse)
    assert corpus.features(1).numpy() == pytest.approx(matrices["u4"])
    assert corpus.alignment(2).tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_failure_leaves_an_earlier_folder_as_it_was(tmp_path: Path) -> None:
    def write(value: float, fail: bool = False) -> None:
        with ArkWriter(tmp_path, "feats") as writer:
            writer.matrix("u", np.full((2, 2), value, np.float32))
            if fail:
                raise KeyError("something")

    write(1.0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyError):
        write(2.0, fail=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write(3.0)
    assert (tmp_path / "feats.ark").read_bytes() != before["feats.ark"]


@pytest.mark.parametrize("name", ["", "two words", "a\nb"])
def test_names_with_spaces_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="without spaces"), ArkWriter(tmp_path, "feats") as writer:
        writer.matrix(name, np.zeros((1, 1), np.float32))


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "feats.ark").mkdir()
    with pytest.raises(FileError, match=r"feats\.ark"):
        ArkWriter(tmp_path, "feats")
