"""What is done with a trained network: log-likelihoods for Kaldi, new alignments."""

import json
import shutil
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import safetensors.torch
import torch

from tests.speech.spoken import Spoken, write_spoken
from thinwire.cli import main
from thinwire.data.kaldi import ArkWriter, read_corpus, refuse
from thinwire.report import load_run
from thinwire.speech.decode import phone_errors

SETTINGS = ["--epochs", "12", "--minibatch", "64", "--optimizer.lr", "0.3", "--seed", "3"]
SETTINGS += ["--model.hidden", "32", "--optimizer.lr-decay", "0.8"]
SETTINGS += ["--optimizer.momentum-time-constant", "300"]


def trained(folder: Path, run: Path, *flags: str) -> None:
    data = ["--data", str(folder), "--data.splice", "1", "--data.cmvn", "speaker"]
    assert main(["train", "mnist-onebit", *data, *SETTINGS, "--out", str(run), *flags]) == 0


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    return write_spoken(tmp_path_factory.mktemp("corpus"), utterances=30)


@pytest.fixture(scope="module")
def run(spoken: Spoken, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trained(spoken.path, folder, "--model.normalisation", "feature")
    return folder


def by_hand(spoken: Spoken, run: Path, name: str) -> np.ndarray:
    """The definition in plain torch: speaker norms, splicing, network, log posterior - prior."""
    speaker = name.partition("-")[0]
    own = [v for key, v in spoken.features.items() if key.partition("-")[0] == speaker]
    pooled = np.concatenate(own).astype(np.float64)
    values = (spoken.features[name] - pooled.mean(axis=0)) / pooled.std(axis=0)
    padded = np.concatenate([values[:1], values, values[-1:]])
    spliced = np.concatenate([padded[:-2], padded[1:-1], padded[2:]], axis=1)
    norm = safetensors.torch.load_file(run / "normalisation.safetensors")
    weights = safetensors.torch.load_file(run / "model.safetensors")
    hidden = (torch.tensor(spliced).float() - norm["mean"]) * norm["scale"]
    hidden = torch.relu(hidden @ weights["0.weight"].T + weights["0.bias"])
    logits = hidden @ weights["2.weight"].T + weights["2.bias"]
    counts = np.bincount(np.concatenate(list(spoken.classes.values())))
    return (logits.log_softmax(1) - torch.tensor(counts / counts.sum()).log()).numpy()


def test_log_likelihoods_are_those_of_the_definition(
    spoken: Spoken, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Alignments are not needed for it.
    (bare := tmp_path / "bare").mkdir()
    lines = (spoken.path / "feats.scp").read_text().replace("feats.ark", f"{spoken.path}/feats.ark")
    (bare / "feats.scp").write_text(lines)
    (bare / "utt2spk").write_text((spoken.path / "utt2spk").read_text())
    out = tmp_path / "out"
    assert main(["forward", str(run), str(bare), "--out", str(out)]) == 0
    monkeypatch.chdir(out)
    found = dict(kaldiio.load_scp("loglikes.scp").items())
    assert found.keys() == spoken.features.keys()
    for name in list(found)[:5]:
        assert found[name] == pytest.approx(by_hand(spoken, run, name), rel=1e-3, abs=1e-3)


def test_alignments_come_nearer_to_the_truth(tmp_path: Path) -> None:
    truth = write_spoken(tmp_path / "truth", utterances=40, noise=0.5)
    late = write_spoken(tmp_path / "late", utterances=40, noise=0.5, shift=1)
    trained(late.path, tmp_path / "run")
    aligned = tmp_path / "aligned"
    assert main(["align", str(tmp_path / "run"), "--out", str(aligned)]) == 0
    corpus = read_corpus(aligned, refuse)
    wrong_before = wrong_after = 0
    for number, utterance in enumerate(corpus.utterances):
        name = utterance.name
        after = corpus.alignment(number).numpy()
        wrong_before += (late.classes[name] != truth.classes[name]).sum()
        wrong_after += (after != truth.classes[name]).sum()
        assert np.array_equal(corpus.features(number).numpy(), late.features[name])
    assert wrong_after < wrong_before
    assert (aligned / "classes.txt").read_text() == (late.path / "classes.txt").read_text()
    trained(aligned, tmp_path / "again")  # the folder can be trained on


def test_phones_are_told_and_the_report_has_the_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train = write_spoken(tmp_path / "train", utterances=30, seed=1)
    test = write_spoken(tmp_path / "test", utterances=10, seed=2)
    run, out = tmp_path / "run", tmp_path / "out"
    errors = []
    for epochs in ("1", "8"):
        told = ["--data.test", str(test.path), "--epochs", epochs, "--resume", "never"]
        trained(train.path, run, *told)
        before = json.loads((run / "events.jsonl").read_text().splitlines()[-1])
        capfd.readouterr()
        assert main(["decode", str(run), "--out", str(out)]) == 0
        assert "phone error" in capfd.readouterr().out
        told = load_run(run).decoding
        assert told is not None
        assert told["frames"] == sum(map(len, test.classes.values()))
        assert told["frame_error"] == pytest.approx(before["test_error"])
        assert told["cross_entropy"] == pytest.approx(before["test_loss"], rel=1e-3)
        errors.append(told["phone_error"])
    assert errors[1] < errors[0]
    assert errors[1] < 0.2
    lines = dict(line.split(" ", 1) for line in (out / "phones.txt").read_text().splitlines())
    counted = [phone_errors(test.phones[name], lines[name].split()) for name in test.features]
    wrong, phones = map(sum, zip(*counted, strict=True))
    assert wrong / phones == pytest.approx(errors[1])
    assert main(["report", str(run), "--format", "json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert row["phone_error_percent"] == pytest.approx(100 * errors[1], abs=0.01)


def test_classes_without_a_frame_are_never_heard(tmp_path: Path) -> None:
    corpus = write_spoken(tmp_path / "corpus", utterances=8)
    with (corpus.path / "classes.txt").open("a") as file:
        file.write("12 d 0\n")
    trained(corpus.path, tmp_path / "run", "--epochs", "1")
    out = tmp_path / "out"
    assert main(["decode", str(tmp_path / "run"), str(corpus.path), "--out", str(out)]) == 0
    lines = (out / "phones.txt").read_text().splitlines()
    assert {word for line in lines for word in line.split()[1:]} <= {"SIL", "a", "b", "c"}


def test_low_rank_networks_are_loaded_too(spoken: Spoken, tmp_path: Path) -> None:
    trained(spoken.path, tmp_path / "run", "--model.hidden", "32", "32", "--model.rank", "4")
    arguments = ["forward", str(tmp_path / "run"), str(spoken.path), "--out", str(tmp_path / "o")]
    assert main(arguments) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["forward", "nowhere", "FOLDER", "--out", "OUT"], "nowhere: expected a run folder"),
        (["forward", "RUN", "--out", "OUT"], "expected FOLDER and --out"),
        (["forward", "RUN", "FOLDER"], "expected FOLDER and --out"),
        (["forward", "RUN", "OTHER", "--out", "OUT"], "0.weight: got shape [32, 18]"),
        (["forward", "RUN", "FOLDER", "--out", "OUT", "--trained-on", "OUT"], "--trained-on says"),
        (["forward", "RUN", "FOLDER", "--out", "OUT", "--oot", "x"], "did you mean '--out'?"),
        (["forward"], None),
        (["align", "RUN"], "expected --out"),
        (["decode", "RUN"], "the run had no test folder"),
        (["decode", "RUN", "FOLDER", "--trained-on", "BARE"], "expected classes.txt"),
        (["decode", "RUN", "FOLDER", "--phone-penalty", "x"], "--phone-penalty"),
        (["decode", "RUN", "FOLDER", "--phone-penalty", "nan"], "phone_penalty: expected a finite"),
        (["decode", "RUN", "FOLDER", "--bigram-scale=-1"], "bigram_scale: expected a number >= 0"),
        (["decode", "RUN", "MORE"], "expected class numbers below 12, got 12"),
        (["align", "RUN", "MORE", "--out", "OUT"], "expected class numbers below 12, got 12"),
        (["align", "RUN", "--out", "FOLDER"], "expected another folder"),
    ],
)
def test_mistakes_are_named_in_one_line(
    spoken: Spoken,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str | None,
) -> None:
    other = tmp_path / "other"
    with_columns = np.zeros((4, 2), np.float32)
    other.mkdir()
    kaldiio.save_ark(str(other / "a.ark"), {"u": with_columns}, scp=str(other / "feats.scp"))
    bare = tmp_path / "bare"
    shutil.copytree(spoken.path, bare)
    (bare / "classes.txt").unlink()
    more = tmp_path / "more"
    shutil.copytree(spoken.path, more)
    with ArkWriter(more, "ali") as writer:
        for name, classes in spoken.classes.items():
            writer.vector(name, classes + 1)
    places = {
        "MORE": more,
        "BARE": bare,
        "RUN": run,
        "FOLDER": spoken.path,
        "OUT": tmp_path / "out",
        "OTHER": other,
    }
    code = main([str(places.get(argument, argument)) for argument in arguments])
    error = capsys.readouterr().err
    if said is None:
        assert code == 0
        return
    assert code == 2
    assert said in error
    assert error.count("\n") == 1
