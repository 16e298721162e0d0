"""The whole way from packages to folders of Kaldi files, on a few rooms of the real corpus."""

import contextlib
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from thinwire.cli import data
from thinwire.cli.usage import UsageError
from thinwire.data.kaldi import inspect_kaldi
from thinwire.speech.classes import SILENCE, read_classes
from thinwire.speech.fillets import Settings, build
from thinwire.speech.fillets.chain import STATES
from thinwire.speech.fillets.packages import read_packages

ROOMS = ("barrel", "chest", "turtle", "viking1", "aztec", "cave")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of some rooms."""
    try:
        files = read_packages(None, print)
    except (OSError, RuntimeError, ValueError) as error:
        pytest.skip(f"the packages cannot be had: {error}")
    folder = tmp_path_factory.mktemp("unpacked")
    for name, content in files.items():
        if name.split("/")[1] in ROOMS:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def test_mistakes_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data.run(["fillets"]) == 2
    assert "usage: thinwire data fillets OUT" in capsys.readouterr().out
    out = str(tmp_path / "out")
    with pytest.raises(UsageError, match=f"{tmp_path}: expected both packages"):
        data.run(["fillets", out, "--from", str(tmp_path)])
    with pytest.raises(UsageError, match=r"states: expected \d+ or more"):
        data.run(["fillets", out, "--states", "5"])
    with pytest.raises(UsageError, match="expected a folder to write to"):
        data.run(["fillets", "--states", "500"])
    with pytest.raises(UsageError, match="unknown argument '--stats'"):
        data.run(["fillets", out, "--stats", "500"])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_corpus_is_built_and_a_rerun_changes_nothing(source: Path, tmp_path: Path) -> None:
    told: list[str] = []
    settings = Settings(states=STATES + 40)
    text = build(tmp_path, source, settings, print, lambda stage, _: told.append(stage))
    assert "essentially two speakers" in text
    assert "General Public License, version 2" in text
    assert (tmp_path / "statistics.md").read_text() == text
    for part in ("train", "test", "other"):
        with contextlib.chdir(tmp_path / part):  # where kaldiio looks for relative paths
            check_part(Path())
    classes = read_classes(tmp_path / "train")
    assert classes is not None
    assert len(classes) == STATES + 40
    assert told[0] == "sounds"

    before = contents(tmp_path)
    assert build(tmp_path, source, settings, print, lambda *_: None) == text
    assert contents(tmp_path) == before


def check_part(folder: Path) -> None:
    """Features are normalised, and labels go through the phones of an utterance in order."""
    _, wrong = inspect_kaldi(folder)
    assert not wrong
    features = dict(kaldiio.load_scp(str(folder / "feats.scp")))
    labels = dict(kaldiio.load_scp(str(folder / "ali.scp")))
    speakers = dict(line.split() for line in (folder / "utt2spk").read_text().splitlines())
    assert list(features) == list(labels) == list(speakers) == sorted(speakers)
    classes = read_classes(folder)
    assert classes is not None
    for name in features:
        assert features[name].shape == (len(labels[name]), 40)
        phones = classes.phones_in(labels[name])
        assert any(phone != SILENCE for phone in phones)
        positions = np.array(classes.position_of)[labels[name]]
        assert set(np.diff(positions)) <= {-2, 0, 1}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
