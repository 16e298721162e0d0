"""Ark files that are written, against kaldiio and our own reader."""

import subprocess
import sys
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


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    code = f"""
import resource, signal
import numpy as np
from pathlib import Path
from thinwire.data.kaldi import ArkWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with ArkWriter(Path({str(tmp_path)!r}), "feats") as writer:
    for number in range(100):
        writer.matrix(f"u{{number}}", np.ones((100, 40), np.float32))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1].startswith("thinwire.files.FileError")
    assert "feats.ark: cannot be written: File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "two words", "a\nb"])
def test_names_with_spaces_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="without spaces"), ArkWriter(tmp_path, "feats") as writer:
        writer.matrix(name, np.zeros((1, 1), np.float32))


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "feats.ark").mkdir()
    with pytest.raises(FileError, match=r"feats\.ark"):
        ArkWriter(tmp_path, "feats")
