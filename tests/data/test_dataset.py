"""Loading a data set from four IDX files, and refusing files that do not fit each other."""

import re

import pytest
import torch

from thinwire.data import IDX_NAMES, TensorSource, find_idx_files, load_idx_folder

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_NAMES


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_loads_every_spelling(tmp_path, encode_set, write_files, compress, dotted):
    files = encode_set()
    write_files(tmp_path, files, compress=compress, dotted=dotted)
    data = load_idx_folder(tmp_path, "noise")
    assert (data.name, data.classes, len(data.train), len(data.test)) == ("noise", 10, 5, 3)
    for split, images, labels in (
        (data.train, files[TRAIN_IMAGES], files[TRAIN_LABELS]),
        (data.test, files[TEST_IMAGES], files[TEST_LABELS]),
    ):
        want = torch.tensor(list(images[16:]), dtype=torch.float32).reshape(-1, 6) / 255
        assert split.inputs.dtype == torch.float32
        assert torch.equal(split.inputs, want)
        assert split.targets.dtype == torch.int64
        assert split.targets.tolist() == list(labels[8:])


def test_inputs_span_zero_to_one(tmp_path, encode_set, encode_idx, write_files):
    files = encode_set() | {TEST_IMAGES: encode_idx((3, 2, 3), [0, 255] * 9)}
    inputs = load_idx_folder(write_files(tmp_path, files), "x").test.inputs
    assert (inputs.min().item(), inputs.max().item()) == (0.0, 1.0)


def test_prefers_the_plain_file(tmp_path, encode_set, write_files):
    write_files(tmp_path, encode_set(seed=1), compress=True)
    write_files(tmp_path, encode_set(seed=2))
    assert set(find_idx_files(tmp_path).values()) == {tmp_path / name for name in IDX_NAMES}


def test_lists_exactly_the_missing_files_before_decoding(tmp_path, write_files):
    # What is there is no IDX file at all: it must not be looked at.
    write_files(tmp_path, {TRAIN_LABELS: b"junk", TEST_IMAGES: b"junk"})
    with pytest.raises(FileNotFoundError) as caught:
        load_idx_folder(tmp_path, "x")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}: files: got 2 of 4")
    assert [name for name in IDX_NAMES if name in text] == [TRAIN_IMAGES, TEST_LABELS]


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: folder: got no such folder"):
        load_idx_folder(tmp_path / "nowhere", "x")


def changed(encode_idx, case):
    """The file to change, its new content, and the field and fact the error must state."""
    return {
        "train counts": (TRAIN_LABELS, encode_idx((4,)), "label count: got 4, expected 5"),
        "test counts": (TEST_LABELS, encode_idx((4,)), "label count: got 4, expected 3"),
        "image size": (TEST_IMAGES, encode_idx((3, 3, 2)), "image size: got 3 x 2, expected 2 x 3"),
        "train label": (
            TRAIN_LABELS,
            encode_idx((5,), [0, 9, 10, 1, 2]),
            "labels: got 10 at item 2, expected below 10",
        ),
        "test label": (TEST_LABELS, encode_idx((3,), [0, 9, 255]), "labels: got 255 at item 2"),
        "no images": (TEST_IMAGES, encode_idx((0, 2, 3)), "image count: got 0"),
        "train ndim": (TRAIN_IMAGES, encode_idx((5, 6)), "magic: got 00 00 08 02"),
        "test ndim": (TEST_LABELS, encode_idx((3, 1)), "magic: got 00 00 08 02"),
    }[case]


@pytest.mark.parametrize(
    "case",
    [
        "train counts",
        "test counts",
        "image size",
        "train label",
        "test label",
        "no images",
        "train ndim",
        "test ndim",
    ],
)
def test_refuses_files_that_do_not_fit(tmp_path, encode_set, encode_idx, write_files, case):
    name, content, fact = changed(encode_idx, case)
    write_files(tmp_path, encode_set() | {name: content})
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / name}: {fact}")):
        load_idx_folder(tmp_path, "x")


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_refuses_images_without_pixels(tmp_path, encode_set, encode_idx, write_files, shape):
    files = {TRAIN_IMAGES: encode_idx((5, *shape)), TEST_IMAGES: encode_idx((3, *shape))}
    write_files(tmp_path, encode_set() | files)
    with pytest.raises(ValueError, match=f"{TRAIN_IMAGES}: (rows|columns): got 0"):
        load_idx_folder(tmp_path, "x")


def test_class_count_sets_the_label_range(tmp_path, encode_set, encode_idx, write_files):
    write_files(tmp_path, encode_set() | {TRAIN_LABELS: encode_idx((5,), [0, 1, 2, 3, 255])})
    assert load_idx_folder(tmp_path, "x", classes=256).classes == 256
    assert load_idx_folder(tmp_path, "x", classes=1000).train.targets.max() == 255
    with pytest.raises(ValueError, match="got 255 at item 4, expected below 255"):
        load_idx_folder(tmp_path, "x", classes=255)
    with pytest.raises(ValueError, match="classes: got 0"):
        load_idx_folder(tmp_path, "x", classes=0)


@pytest.mark.parametrize(
    ("inputs", "targets", "field"),
    [((4, 2), (3,), "targets"), ((4, 2), (), "targets"), ((4,), (4,), "inputs")],
)
def test_split_refuses_shapes_that_do_not_fit(inputs, targets, field):
    with pytest.raises(ValueError, match=f"{field}: got shape"):
        TensorSource(torch.zeros(inputs), torch.zeros(targets))
