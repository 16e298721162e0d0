"""Every source of samples passes the same tests, whatever it is stored in."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from tests.conftest import write_idx
from thinwire.data import (
    DataFields,
    Dataset,
    DataSource,
    Mapped,
    TensorSource,
    View,
    evenly_spaced,
    hold_out,
    largest_class,
    lies_in_runs,
    map_samples,
    open_dataset,
)

SIZE, FEATURES = 23, 4
PIXELS = torch.randint(0, 256, (SIZE, 2, 2), generator=torch.Generator().manual_seed(3))
INPUTS = PIXELS.flatten(1).float().div(255)
TARGETS = torch.arange(SIZE) % 3
COLUMNS = [f"x{i}" for i in range(FEATURES)]


def idx(folder: Path) -> Dataset:
    for name in ("train", "t10k"):
        write_idx(folder / f"{name}-images-idx3-ubyte", PIXELS)
        write_idx(folder / f"{name}-labels-idx1-ubyte", TARGETS)
    return open_dataset(DataFields(path=str(folder)))


def npy(folder: Path) -> Dataset:
    for name in ("", "test_"):
        np.save(folder / f"{name}inputs.npy", INPUTS.numpy())
        np.save(folder / f"{name}targets.npy", TARGETS.numpy().astype(np.uint8))
    return open_dataset(DataFields(path=str(folder)))


def npz(folder: Path, save: Callable[..., None] = np.savez) -> Dataset:
    arrays = {"x_train": INPUTS.numpy(), "y_train": TARGETS.numpy()}
    arrays |= {"x_test": INPUTS.numpy(), "y_test": TARGETS.numpy()}
    save(folder / "samples.npz", **arrays)
    names: Any = {"inputs": ("x_train",), "targets": ("y_train",)}
    return open_dataset(DataFields(path=str(folder / "samples.npz"), **names))


def npz_compressed(folder: Path) -> Dataset:
    return npz(folder, np.savez_compressed)


def npz_turned(folder: Path) -> Dataset:
    """Column-major arrays of big-endian numbers, as other programs write them."""
    other = np.asfortranarray(INPUTS.numpy().astype(">f8"))
    arrays = {"inputs": other, "targets": TARGETS.numpy().astype(">i2")}
    np.savez(folder / "samples.npz", **arrays)
    path = str(folder / "samples.npz")
    return open_dataset(DataFields(path=path, test=path))


def table(folder: Path) -> Any:
    pyarrow = pytest.importorskip("pyarrow")
    columns = dict(zip(COLUMNS, INPUTS.T.numpy(), strict=True))
    return pyarrow.table({**columns, "class": TARGETS.numpy()})


def csv(folder: Path) -> Dataset:
    made = table(folder)
    from pyarrow import csv as writer

    writer.write_csv(made, folder / "samples.csv")
    path = str(folder / "samples.csv")
    return open_dataset(DataFields(path=path, test=path, targets=("class",)))


def parquet(folder: Path) -> Dataset:
    made = table(folder)
    from pyarrow import parquet as writer

    writer.write_table(made, folder / "samples.parquet", row_group_size=5)
    path = str(folder / "samples.parquet")
    return open_dataset(DataFields(path=path, test=path, targets=("class",)))


def rows() -> tuple[TensorDataset, TensorDataset]:
    """What a user's function returns."""
    made = TensorDataset(INPUTS.double(), TARGETS)
    return made, made


def function(folder: Path) -> Dataset:
    return open_dataset(DataFields(path=f"{__name__}:rows"))


def made_of(change: Callable[[DataSource], DataSource]) -> Callable[[Path], Dataset]:
    def make(folder: Path) -> Dataset:
        source = TensorSource(INPUTS, TARGETS)
        return Dataset(change(source), change(source), 3, "made")

    return make


def doubled(source: DataSource) -> DataSource:
    """All samples, from the second half of twice as many, seen through two views."""
    twice = TensorSource(torch.cat([-INPUTS, INPUTS]), torch.cat([TARGETS, TARGETS]))
    return View(View(twice, torch.arange(1, 2 * SIZE)), torch.arange(SIZE - 1, 2 * SIZE - 1))


def kaldi(folder: Path) -> Dataset:
    """Three utterances."""
    kaldiio = pytest.importorskip("kaldiio")
    parts = {"a": slice(0, 4), "b": slice(4, 20), "c": slice(20, SIZE)}
    features = {name: INPUTS[rows].numpy() for name, rows in parts.items()}
    classes = {name: TARGETS[rows].numpy().astype(np.int32) for name, rows in parts.items()}
    kaldiio.save_ark(str(folder / "raw.ark"), features, scp=str(folder / "feats.scp"))
    kaldiio.save_ark(str(folder / "ali.ark"), classes)
    return open_dataset(DataFields(path=str(folder), test=str(folder)))


SOURCES: dict[str, Callable[[Path], Dataset]] = {
    "idx": idx,
    "npy": npy,
    "npz": npz,
    "npz-compressed": npz_compressed,
    "npz-turned": npz_turned,
    "csv": csv,
    "parquet": parquet,
    "kaldi": kaldi,
    "function": function,
    "tensors": made_of(lambda source: source),
    "view": made_of(doubled),
    "mapped": made_of(lambda source: Mapped(source, lambda x: x, lambda y: y)),
}


@pytest.fixture(params=SOURCES)
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    return SOURCES[request.param](tmp_path)


def both(source: DataSource) -> list[Tensor]:
    return [*source.batch(torch.arange(len(source)))]


def test_samples_come_by_number(dataset: Dataset) -> None:
    for source in (dataset.train, dataset.test):
        assert isinstance(source, DataSource)
        assert (len(source), source.shape) == (SIZE, (FEATURES,))
        numbers = torch.tensor([7, 0, 22, 7, 13])
        inputs, targets = source.batch(numbers)
        assert inputs.dtype == torch.float32
        # Text holds every digit of a float32, so that a CSV file gives the same bits.
        assert torch.equal(inputs, INPUTS[numbers])
        assert torch.equal(targets, TARGETS[numbers])
        assert targets.dtype == torch.int64
        assert torch.equal(source.targets_of(numbers), targets)
        nothing = source.batch(numbers[:0])
        assert [tuple(part.shape) for part in nothing] == [(0, FEATURES), (0,)]


def test_a_batch_is_nobody_else_s(dataset: Dataset) -> None:
    inputs, _ = dataset.train.batch(torch.arange(2))
    inputs.zero_()
    assert torch.equal(dataset.train.batch(torch.arange(2))[0], INPUTS[:2])


def test_held_out_samples_are_the_others(dataset: Dataset) -> None:
    parts = hold_out(dataset, 8, seed=0)
    assert parts.held_out is not None
    if not lies_in_runs(dataset.train):
        assert isinstance(parts.train, View)
        assert isinstance(parts.held_out, View)
        assert parts.train.source is parts.held_out.source
    inputs = torch.cat([both(parts.train)[0], both(parts.held_out)[0]])
    assert torch.equal(inputs.sort(0).values, INPUTS.sort(0).values)
    identities = {s.identity for s in (dataset.train, parts.train, parts.held_out)}
    assert len(identities) == 3


def test_samples_are_changed_as_a_whole_or_as_they_are_read(dataset: Dataset) -> None:
    changed = map_samples(hold_out(dataset, 8, seed=0), lambda x: 2 * x, lambda y: -y)
    assert changed.held_out is not None
    for source, of in ((changed.test, dataset.test),):
        inputs, targets = both(source)
        assert torch.equal(inputs, 2 * both(of)[0])
        assert torch.equal(targets, -both(of)[1])
        assert source.identity == of.identity, "what is done to samples is no part of them"
    if lies_in_runs(dataset.train):
        return  # nothing of it is in memory twice
    assert isinstance(changed.train, View)
    assert isinstance(changed.held_out, View)
    assert changed.train.source is changed.held_out.source, "one copy in memory, not two"


def test_the_identity_is_of_the_content(dataset: Dataset) -> None:
    train = dataset.train
    inputs, targets = both(train)
    assert train.identity == train.identity
    assert TensorSource(inputs, targets).identity == TensorSource(inputs, targets).identity
    inputs[5, 1] += 1
    altered = TensorSource(inputs, targets).identity
    targets[5] += 1
    assert len({altered, TensorSource(inputs, targets).identity, train.identity}) == 3


def test_classes_are_counted(dataset: Dataset) -> None:
    assert largest_class(dataset.train) == 2


@pytest.mark.parametrize(("size", "most"), [(1, 2), (5, 5), (6, 5), (1000, 7), (10**12, 1024)])
def test_evenly_spaced_numbers_reach_both_ends(size: int, most: int) -> None:
    found = evenly_spaced(size, most)
    assert len(found) == min(size, most)
    assert (int(found[0]), int(found[-1])) == (0, size - 1)
    gaps = found.diff()
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_words_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "words.csv"
    path.write_text("size,kind\n1,wasp\n2,bee\n3,bee\n4,ant\n")
    found = open_dataset(DataFields(path=str(path), targets=("kind",), test=str(path)))
    assert (found.labels, found.classes) == (("ant", "bee", "wasp"), 3)
    assert both(found.train)[1].tolist() == [2, 1, 1, 0]


def test_a_share_is_taken_for_testing(tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", np.arange(50.0)[:, None])
    np.save(tmp_path / "targets.npy", np.arange(50))
    parts = [open_dataset(DataFields(path=str(tmp_path), test_share=0.2)) for _ in range(2)]
    assert [len(part.test) for part in parts] == [10, 10]
    together = torch.cat([both(parts[0].train)[1], both(parts[0].test)[1]])
    assert torch.equal(together.sort().values, torch.arange(50))
    assert torch.equal(both(parts[0].test)[1], both(parts[1].test)[1]), "the same in every run"


def resident() -> int:
    """Bytes of this process in memory, mapped files among them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("archive", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_only_the_samples_asked_for_are_read(tmp_path: Path, archive: bool) -> None:
    """16 GB of samples on a machine with less memory; the file is sparse."""
    rows, features = 1 << 20, 1 << 12
    path = tmp_path / "inputs.npy"
    np.lib.format.open_memmap(path, "w+", np.float32, (rows, features))[1234] = 7
    np.save(tmp_path / "targets.npy", np.arange(rows) % 10)
    fields = DataFields(path=str(tmp_path))
    if archive:
        fields = DataFields(path=str(sparse_archive(tmp_path)))
    before = resident()
    dataset = open_dataset(fields)
    found, _ = View(dataset.train, torch.arange(len(dataset.train))).batch(torch.arange(3))
    assert tuple(found.shape) == (3, features)
    assert isinstance(dataset.train, View)
    inputs, targets = dataset.train.source.batch(torch.tensor([1234, 5]))
    assert inputs.mean(1).tolist() == [7, 0]
    assert targets.tolist() == [4, 5]
    looked_at = 2 * 1024 * features * 4  # by the checks: 1,024 samples, whole pages of them
    everything = rows * features * 4
    assert resident() - before < looked_at + (1 << 28) < everything / 8


def sparse_archive(folder: Path) -> Path:
    """An .npz of a folder's arrays whose zeros take no disk: zeros have a known checksum."""
    path = folder / "samples.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.write(folder / "targets.npy", "targets.npy")
        info = zipfile.ZipInfo("inputs.npy")
        archive.writestr(info, b"")  # its local header: what follows is moved in
        place, size = info.header_offset, (folder / "inputs.npy").stat().st_size
        start = archive.fp.tell()  # type: ignore[union-attr]
        info.file_size = info.compress_size = size
        with (folder / "inputs.npy").open("rb") as source:
            header = source.read(128)
            source.seek(128 + 1234 * 4 * (1 << 12))
            row = source.read(4 * (1 << 12))
        file = archive.fp
        assert file is not None
        file.write(header)
        file.seek(start + 128 + 1234 * len(row))
        file.write(row)
        file.truncate(start + size)
        file.seek(0, 2)
        archive.start_dir = file.tell()
        assert place < start
    return path
