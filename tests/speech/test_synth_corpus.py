"""Corpora of synthetic speech: files, labels, and the command that makes them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.speech.synthetic import needs_packages, write_text
from thinwire.cli import main
from thinwire.data.kaldi import inspect_kaldi
from thinwire.data.kaldi.corpus import Corpus
from thinwire.data.kaldi.index import read_corpus
from thinwire.speech.classes import Classes, read_classes
from thinwire.speech.synth import text
from thinwire.speech.synth.voices import TEST_VARIANTS, TRAIN_VARIANTS

pytestmark = needs_packages

FILES = {"feats.scp", "feats.ark", "ali.scp", "ali.ark", "utt2spk", "classes.txt"}


def synth(out: Path, *arguments: str) -> int:
    words = out.parent / "words.txt"
    if not words.exists():
        write_text(words)
    return main(["data", "synth", str(out), "--text", str(words), *arguments])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "small"
    assert synth(out, "--hours", "0.01", "--test-hours", "0.003", "--jobs", "1") == 0
    return out


def contents(out: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file()}
    found = {name: path.read_bytes() for name, path in files.items()}
    found["statistics.md"] = found["statistics.md"].split(b"## Time")[0]
    return found


def opened(folder: Path) -> Corpus:
    def refuse(line: str) -> None:
        raise AssertionError(line)

    return read_corpus(folder, refuse)


def classes_of(folder: Path) -> Classes:
    found = read_classes(folder)
    assert found is not None
    return found


def test_a_corpus_has_all_its_files(small: Path) -> None:
    assert {path.name for path in small.iterdir()} == {"train", "test", "statistics.md"}
    for part, frames in (("train", 3600), ("test", 1080)):
        assert {path.name for path in (small / part).iterdir()} == FILES
        lines, wrong = inspect_kaldi(small / part)
        assert not wrong, lines
        corpus = opened(small / part)
        assert not corpus.skipped
        assert frames <= sum(each.frames for each in corpus.utterances) < frames + 2000
        assert corpus.classes <= len(classes_of(small / part))
    assert (small / "train/classes.txt").read_bytes() == (small / "test/classes.txt").read_bytes()
    page = (small / "statistics.md").read_text()
    for word in ("hours", "silence", "entropy", "seed: 0", "words.txt", "An hour of speech took"):
        assert word in page


def test_the_number_of_processes_changes_nothing(small: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert synth(again, "--hours", "0.01", "--test-hours", "0.003", "--jobs", "3") == 0
    assert contents(again) == contents(small)


def test_an_earlier_corpus_is_replaced(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(small, out)
    arguments = ("--hours", "0.002", "--test-hours", "0.001", "--seed", "3", "--classes", "200")
    assert synth(out, *arguments, "--noise", "easy") == 0
    assert contents(out)["train/feats.ark"] != contents(small)["train/feats.ark"]
    assert len(classes_of(out / "train")) <= 200
    assert not inspect_kaldi(out / "train")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hours", "0"], "--hours: expected a number above 0"),
        (["--hours", "nan"], "--hours: expected a number above 0"),
        (["--hours", "-1"], "--hours"),
        ([], "--hours is missing"),
        (["--hours", "1", "--test-hours", "0"], "--test-hours: expected"),
        (["--hours", "1", "--classes", "10"], "--classes: expected 126"),
        (["--hours", "1", "--jobs", "0"], "--jobs: expected"),
        (["--hours", "1", "--seed", "-1"], "--seed: expected"),
        (["--hours", "1", "--noise", "loud"], "loud"),
        (["--hours", "1", "--text", "missing.txt"], "missing.txt"),
        (["--hours", "1", "--tekst", "a"], "--tekst"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert synth(out, *arguments) == 2
    captured = capfd.readouterr().err
    assert said in captured
    assert captured.count("\n") == 1
    assert not out.exists()


def test_a_folder_of_something_else_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert synth(out, "--hours", "1") == 2
    assert "holds something else" in capfd.readouterr().err
    (tmp_path / "file").touch()
    assert synth(tmp_path / "file", "--hours", "1") == 2
    assert "expected a folder or nothing" in capfd.readouterr().err
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_a_disk_too_small_is_told_before_any_work(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 10**9))
    assert synth(tmp_path / "out", "--hours", "100") == 2
    assert "112.5 hours need 6.8 GB, and the disk has 1.0 GB free" in capfd.readouterr().err


def test_without_the_default_text_one_is_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> str:
        raise OSError("npm: got no such program on the PATH, expected one")

    monkeypatch.setattr(text, "brown_text", unreachable)
    assert main(["data", "synth", str(tmp_path / "out"), "--hours", "1"]) == 2
    captured = capfd.readouterr().err
    assert "--text FILE (npm: got no such program" in captured
    assert captured.count("\n") == 1


def test_text_that_cannot_be_spoken_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\n".join(f"мы были {'мы ' * n}" for n in range(1, 9)), encoding="utf-8")
    assert main(["data", "synth", str(tmp_path / "out"), "--hours", "1", "--text", str(words)]) == 1
    assert "cannot be spoken" in capfd.readouterr().err
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.fixture(scope="module")
def ten_minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "ten"
    assert synth(out, "--hours", "0.15", "--test-hours", "0.03", "--noise", "easy") == 0
    return out


def frames_and_states(folder: Path) -> tuple[list[NDArray[np.float32]], list[NDArray[np.int64]]]:
    corpus, classes = opened(folder), classes_of(folder)
    numbers = range(len(corpus.utterances))
    features = [corpus.features(number).numpy() for number in numbers]
    states = [classes.state_of[corpus.alignment(number).numpy()] for number in numbers]
    return [each - each.mean(axis=0) for each in features], states


@pytest.mark.slow
def test_ten_minutes_do_not_depend_on_the_number_of_processes(
    ten_minutes: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    arguments = ("--hours", "0.15", "--test-hours", "0.03", "--noise", "easy", "--jobs", "1")
    assert synth(again, *arguments) == 0
    assert contents(again) == contents(ten_minutes)


@pytest.mark.slow
def test_ten_minutes_have_a_label_for_every_frame_and_other_voices_to_test_on(
    ten_minutes: Path,
) -> None:
    voices = {}
    for part in ("train", "test"):
        corpus = opened(ten_minutes / part)
        assert not corpus.skipped
        assert not inspect_kaldi(ten_minutes / part)[1]
        speakers = {each.speaker for each in corpus.utterances}
        voices[part] = {speaker.split("-")[1] for speaker in speakers}
        classes = classes_of(ten_minutes / part)
        for number, utterance in enumerate(corpus.utterances):
            alignment = corpus.alignment(number).numpy()
            assert len(alignment) == utterance.frames
            begins = classes.begins(alignment)
            assert np.diff(begins, append=len(alignment)).min() >= 3
            positions = np.array(classes.position_of)[alignment]
            assert (positions[begins] == 0).all()
            assert (np.diff(positions)[np.diff(positions) > 0] == 1).all()
    assert not voices["train"] & voices["test"]
    assert voices["train"] <= {variant.replace(" ", "_") for variant in TRAIN_VARIANTS}
    assert voices["test"] <= set(TEST_VARIANTS)


@pytest.mark.slow
def test_labels_are_where_the_sounds_are(ten_minutes: Path) -> None:
    """Means of states explain most of the features where labels are not moved."""
    features, states = frames_and_states(ten_minutes / "train")
    explained = {}
    for shift in range(-4, 5):
        moved = [np.roll(each, shift) for each in states]
        x, y = np.concatenate(features), np.concatenate(moved)
        sums = np.zeros((y.max() + 1, x.shape[1]))
        np.add.at(sums, y, x)
        means = sums / np.maximum(np.bincount(y), 1)[:, None]
        explained[shift] = float((means[y] ** 2).sum() / (x**2).sum())
    assert max(explained, key=explained.__getitem__) in (0, 1)
    assert explained[0] > 1.3 * max(explained[4], explained[-4])
