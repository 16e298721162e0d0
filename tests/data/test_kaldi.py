"""Frames of Kaldi folders: what is read is what kaldiio wrote, and every frame has its turn."""

import struct
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.data.kaldi_folder import DIMENSION, Folder, write_folder
from thinwire.data import (
    DataFields,
    Dataset,
    MinibatchSampler,
    hold_out,
    inspect_kaldi,
    map_samples,
    open_dataset,
    order_of,
    shard,
)
from thinwire.data.kaldi.corpus import Corpus
from thinwire.data.kaldi.folder import speakers_of
from thinwire.data.kaldi.frames import FrameSource
from thinwire.data.kaldi.index import read_corpus
from thinwire.data.kaldi.store import FrameStore


def opened(folder: Folder, **fields: Any) -> Dataset:
    """The folder as training and as test frames."""
    return open_dataset(DataFields(path=str(folder.path), test=str(folder.path), **fields))


def corpus_of(folder: Folder) -> Corpus:
    def refuse(line: str) -> None:
        raise ValueError(line)

    return read_corpus(folder.path, refuse)


def small_source(folder: Folder, rows: int, splice: int = 0) -> FrameSource:
    """The frames of a folder, of which only so many are in memory."""
    corpus = corpus_of(folder)
    store = FrameStore(corpus, rows * (4 * DIMENSION + 16), None)
    utterances = torch.arange(len(corpus.utterances))
    return FrameSource(store, speakers_of(corpus), splice, utterances)


def spliced(features: Any, around: int) -> Any:
    """Frames with their neighbours, one at a time."""
    rows = []
    for frame in range(len(features)):
        near = [min(max(frame + k, 0), len(features) - 1) for k in range(-around, around + 1)]
        rows.append(np.concatenate([features[k] for k in near]))
    return np.stack(rows)


def everything(folder: Folder, around: int = 0) -> tuple[Tensor, Tensor]:
    features = np.concatenate([spliced(each, around) for each in folder.features.values()])
    classes = np.concatenate(list(folder.classes.values()))
    return torch.from_numpy(features), torch.from_numpy(classes).long()


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("splice", [0, 2])
def test_frames_are_what_was_written(tmp_path: Path, text: bool, splice: int) -> None:
    folder = write_folder(tmp_path, text=text)
    train = opened(folder, splice=splice).train
    inputs, targets = train.batch(torch.arange(len(train)))
    wanted = everything(folder, splice)
    assert train.shape == ((2 * splice + 1) * DIMENSION,)
    assert torch.equal(inputs, wanted[0])
    assert torch.equal(targets, wanted[1])
    numbers = torch.tensor([36, 0, 7, 0, 22])
    assert torch.equal(train.batch(numbers)[0], wanted[0][numbers])
    assert torch.equal(train.targets_of(numbers), wanted[1][numbers])


@pytest.mark.parametrize("method", range(1, 8))
def test_compressed_features_are_as_kaldiio_reads_them(tmp_path: Path, method: int) -> None:
    folder = write_folder(tmp_path, (30, 2, 8, 9), compression=method)
    corpus = corpus_of(folder)
    for number, (name, wanted) in enumerate(kaldiio.load_ark(str(tmp_path / "raw.ark"))):
        assert corpus.utterances[number].name == name
        torch.testing.assert_close(corpus.features(number), torch.from_numpy(wanted.copy()))


def test_hand_made_bytes(tmp_path: Path) -> None:
    """A matrix of doubles, two rows of which are an utterance, and a compressed one."""
    doubles = b"\0BDM \4" + struct.pack("<i", 3) + b"\4" + struct.pack("<i", 2)
    doubles += struct.pack("<6d", *range(6))
    small = b"\0BCM " + struct.pack("<ffii", -1.0, 65535.0, 2, 2)
    small += struct.pack("<8H", 1, 65, 193, 256, 0, 64, 192, 255) + bytes([0, 64, 192, 255])
    (tmp_path / "raw.ark").write_bytes(doubles + small)
    (tmp_path / "feats.scp").write_text(f"b raw.ark[1:2]\na raw.ark:{len(doubles)}\n")
    vector = (
        b"\0B\4" + struct.pack("<i", 2) + b"".join(b"\4" + struct.pack("<i", i) for i in (1, 0))
    )
    (tmp_path / "ali.1.ark").write_bytes(b"a " + vector)
    (tmp_path / "ali.2.ark").write_bytes(b"b 2 1\n")
    train = open_dataset(DataFields(path=str(tmp_path), test=str(tmp_path))).train
    inputs, targets = train.batch(torch.arange(4))
    assert inputs.tolist() == [[2, 3], [4, 5], [0, 191], [64, 254]]
    assert targets.tolist() == [2, 1, 1, 0]


def test_alignments_by_scp_and_paths_of_the_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    kaldiio.save_ark(str(tmp_path / "v.bin"), folder.classes, scp=str(tmp_path / "ali.scp"))
    (tmp_path / "ali.ark").unlink()
    for name in ("feats.scp", "ali.scp"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace(f"{tmp_path}/", ""))
    train = opened(folder).train
    inputs, targets = train.batch(torch.arange(len(train)))
    assert torch.equal(inputs, everything(folder)[0])
    assert torch.equal(targets, everything(folder)[1])


@pytest.mark.parametrize("per_speaker", [True, False])
def test_cmvn(tmp_path: Path, per_speaker: bool) -> None:
    folder = write_folder(tmp_path, (9, 8, 7, 6, 5))
    if not per_speaker:  # then every utterance is a speaker's
        (tmp_path / "utt2spk").unlink()
    train = opened(folder, cmvn="speaker").train
    inputs = train.batch(torch.arange(len(train)))[0].double()
    names = [name for name, of in folder.classes.items() for _ in of]
    of = [folder.speakers[name] if per_speaker else name for name in names]
    for speaker in set(of):
        own = inputs[torch.tensor([each == speaker for each in of])]
        torch.testing.assert_close(own.mean(0), torch.zeros(DIMENSION).double(), atol=1e-5, rtol=0)
        variance = own.var(0, correction=0)
        torch.testing.assert_close(variance, torch.ones(DIMENSION).double(), atol=1e-4, rtol=0)


LENGTHS = tuple(int(n) for n in np.random.default_rng(1).integers(1, 12, 60))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_epoch_is_every_frame_once_whatever_the_memory_and_the_workers(
    tmp_path: Path, world: int
) -> None:
    folder = write_folder(tmp_path, LENGTHS)
    source, wanted = small_source(folder, 96, splice=1), everything(folder, 1)
    assert source.window == 84 < len(source)
    sampler = MinibatchSampler(len(source), 10, 3, order_of(source))
    seen: list[int] = []
    orders = []
    while sampler.epoch < 2:
        minibatch = sampler.next_minibatch()
        parts = [source.batch(shard(minibatch, rank, world)) for rank in range(world)]
        assert torch.equal(torch.cat([part[0] for part in parts]), wanted[0][minibatch])
        assert torch.equal(torch.cat([part[1] for part in parts]), wanted[1][minibatch])
        seen += minibatch.tolist()
        if sampler.position == 0:
            orders.append(seen)
            seen = []
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(len(source)))
    assert orders[0] != orders[1]


def test_each_utterance_is_read_once_in_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path, LENGTHS)
    source, read = small_source(folder, 96), list[int]()
    features = Corpus.features
    monkeypatch.setattr(Corpus, "features", lambda c, n: (read.append(n), features(c, n))[1])
    sampler = MinibatchSampler(len(source), 7, 3, order_of(source))
    while sampler.epoch == 0:
        source.batch(sampler.next_minibatch())
    assert set(read) == set(range(len(LENGTHS)))
    assert len(read) < 1.2 * len(LENGTHS)  # some at the borders of windows twice


@pytest.mark.parametrize("position", [0, 1, 30, 31, 36])
def test_the_order_goes_on_where_it_was(tmp_path: Path, position: int) -> None:
    source = small_source(write_folder(tmp_path, LENGTHS), 96)
    straight = MinibatchSampler(len(source), 10, 5, order_of(source))
    for _ in range(position):
        straight.next_minibatch()
    other = MinibatchSampler(len(source), 1, 0, order_of(source))
    other.load_state_dict(straight.state_dict())
    for _ in range(50):
        assert torch.equal(straight.next_minibatch(), other.next_minibatch())


def test_more_frames_at_once_than_are_kept(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, LENGTHS)
    source, wanted = small_source(folder, 96), everything(folder)
    numbers = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        inputs, targets = source.batch(numbers)
        assert torch.equal(inputs, wanted[0][numbers])
        assert torch.equal(targets, wanted[1][numbers])
        source.batch(numbers[:5])


def test_no_speaker_is_in_training_and_in_test(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, LENGTHS, speakers=8)
    path = str(folder.path)
    dataset = open_dataset(DataFields(path=path, test_share=0.2, splice=1))
    parts = [dataset.train, dataset.test]
    assert all(isinstance(part, FrameSource) for part in parts)
    groups = [set(part.groups.tolist()) for part in parts]  # type: ignore[attr-defined]
    assert groups[0] | groups[1] == set(range(8))
    assert not groups[0] & groups[1]
    assert len(dataset.test) >= 0.2 * sum(LENGTHS)
    again = open_dataset(DataFields(path=path, test_share=0.2, splice=1))
    assert again.train.identity == dataset.train.identity != dataset.test.identity


@pytest.mark.parametrize(("listed", "frames"), [("s1\n", 4), ("u3\nu0\n", 8)])
def test_split_by_a_list(tmp_path: Path, listed: str, frames: int) -> None:
    folder = write_folder(tmp_path / "a", (7, 3, 12, 1), speakers=3)
    (tmp_path / "list").write_text(listed)
    fields = DataFields(path=str(folder.path), test=str(tmp_path / "list"))
    dataset = open_dataset(fields)
    frames = 3 if listed == "s1\n" else 8
    assert (len(dataset.train), len(dataset.test)) == (23 - frames, frames)


def test_held_out_frames_are_whole_utterances(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, LENGTHS)
    dataset = hold_out(opened(folder), 50, seed=1)
    assert dataset.held_out is not None
    assert len(dataset.train) + len(dataset.held_out) == sum(LENGTHS)
    assert 50 <= len(dataset.held_out) < 62
    mapped = map_samples(dataset, lambda x: 2 * x, lambda y: y)
    order = order_of(mapped.train).epoch("0 0")(0, len(mapped.train))
    assert order.sort().values.tolist() == list(range(len(mapped.train)))


def test_other_lengths_and_missing_alignments_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, (7, 3, 12, 1, 9, 5), text=True)
    lines = (tmp_path / "ali.ark").read_text().splitlines()
    lines[0] += " 1"
    lines[1] = lines[1].rstrip()[:-2]
    (tmp_path / "ali.ark").write_text("\n".join([*lines[:2], *lines[3:], "x 1 2"]) + "\n")
    folder.rewrite("utt2spk", "u4 s1\n", "")
    said: list[str] = []
    path = str(tmp_path)
    dataset = open_dataset(DataFields(path=path, test_share=0.01), said.append)
    assert len(dataset.train) + len(dataset.test) == 1 + 5
    assert said == [
        f"{path}: 1 left out for no speaker in utt2spk: u4",
        f"{path}: 2 left out for an alignment of another length than the features: u0 and others",
        f"{path}: 1 left out for an alignment but no features: x",
        f"{path}: 1 left out for no alignment: u2",
    ]
    lines, wrong = inspect_kaldi(tmp_path)
    assert wrong == 0
    assert lines[0].startswith(f"{path}: 2 utterances of 2 speakers, 6 frames of 5 values, 0.00 h")
    assert said == lines[3:-1]
