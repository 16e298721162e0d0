"""Finding the two Debian packages: where the user says, in the cache, or by apt-get."""

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from thinwire.files import open_regular
from thinwire.speech.fillets.deb import FILE_LIMIT, read_files

TIMEOUT = 900.0  # seconds that apt-get may take
_WANTED = re.compile(
    r"(?:.*/)?((?:sound/(?:share/)?[\w-]+/cs/[\w-]+\.ogg)|(?:script/[\w-]+/(?:\w+_)?dialogs_cs\.lua))"
)
_ERROR_CHARACTERS = 300

Note = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """A Debian package whose every byte is settled.

    Attributes:
        name: of the package.
        file: its file name.
        size: in bytes.
        sha256: hexadecimal digest.
    """

    name: str
    file: str
    size: int
    sha256: str

    def check(self, path: Path) -> None:
        """Check that a file is this package.

        Raises:
            ValueError: it is another; the text says whether size or digest differs.
            OSError: it cannot be read.
        """
        with open_regular(path, follow=True) as stream:
            content = stream.read(self.size + 1)
        if len(content) != self.size:
            got = "more" if len(content) > self.size else str(len(content))
            raise ValueError(f"{path}: expected {self.size} bytes, got {got}")
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise ValueError(f"{path}: expected the SHA-256 digest {self.sha256}, got {digest}")


VOICES = Package(
    "fillets-ng-data-cs",
    "fillets-ng-data-cs_1.0.1-1.1_all.deb",
    39_042_172,
    "3ecef99b9456f1c80c9625c6f2418642b52d58e7167a46bad7a412db17991b14",
)
SCRIPTS = Package(
    "fillets-ng-data",
    "fillets-ng-data_1.0.1-1.1_all.deb",
    70_633_484,
    "25de89afd8b1adf7bcace8290248a6a22c89cd42300317e69000e162c032cf84",
)
PACKAGES = (VOICES, SCRIPTS)
_BRING = (
    f"bring {VOICES.file} and {SCRIPTS.file} of Debian into a folder and name it: --from FOLDER"
)


def read_packages(source: Path | None, note: Note) -> dict[str, bytes]:
    """Return the Czech sound files and dialogue scripts.

    Args:
        source: a folder with the two .deb files, or with their content unpacked; None: they come
            from the cache, or from apt-get into the cache.
        note: told what is fetched.

    Returns:
        Contents by name, such as "sound/city/cs/x.ogg" and "script/city/dialogs_cs.lua".

    Raises:
        ValueError: a package is not the one that is expected.
        OSError: a file is missing or cannot be read.
        RuntimeError: apt-get is missing or does not deliver; the text says what to do.
    """
    folder = _fetched(note) if source is None else source
    if source is not None and not any((source / package.file).exists() for package in PACKAGES):
        return _unpacked(source)
    found: dict[str, bytes] = {}
    for package in PACKAGES:
        if not (folder / package.file).exists():
            raise FileNotFoundError(f"{folder / package.file}: expected this package; {_BRING}")
        package.check(folder / package.file)
        found |= _named(read_files(folder / package.file, lambda name: bool(_WANTED.match(name))))
    return found


def _named(files: dict[str, bytes]) -> dict[str, bytes]:
    named = ((_WANTED.fullmatch(name), content) for name, content in files.items())
    return {match[1]: content for match, content in named if match}


def _unpacked(folder: Path) -> dict[str, bytes]:
    """Read the files of a folder in which both packages have been unpacked."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        match = _WANTED.fullmatch(path.as_posix())
        if match:
            with open_regular(path, limit=FILE_LIMIT) as file:
                found[match[1]] = file.read()
    kinds = {name.split("/")[0] for name in found}
    if kinds != {"sound", "script"}:
        raise FileNotFoundError(
            f"{folder}: expected both packages or what is in them, got only a part; {_BRING}"
        )
    return found


def _fetched(note: Note) -> Path:
    """Return the folder of the cache, filled with both packages."""
    cache = user_cache_path("thinwire") / "fillets"
    missing = [package for package in PACKAGES if not _is_stored(package, cache)]
    if missing:
        note(f"fetching {' and '.join(p.name for p in missing)} with apt-get into {cache}")
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        _apt_get(missing, cache)
    return cache


def _is_stored(package: Package, folder: Path) -> bool:
    try:
        package.check(folder / package.file)
    except (OSError, ValueError):
        return False
    return True


def _apt_get(packages: list[Package], folder: Path) -> None:
    """Download packages into a folder; each is moved there when it is complete and checked."""
    program = shutil.which("apt-get")
    if program is None:
        raise RuntimeError(f"apt-get is not on the PATH, so {_BRING}")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".apt-") as temporary:
        command = [program, "download", *(package.name for package in packages)]
        try:
            done = subprocess.run(
                command,
                cwd=temporary,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"apt-get took more than {TIMEOUT:g} s, so {_BRING}") from None
        if done.returncode != 0:
            said = " ".join(done.stderr.decode(errors="replace").split())[:_ERROR_CHARACTERS]
            raise RuntimeError(f"apt-get returned {done.returncode} ({said}), so {_BRING}")
        for package in packages:
            if not (Path(temporary) / package.file).exists():
                raise RuntimeError(f"apt-get has another release than {package.file}, so {_BRING}")
            package.check(Path(temporary) / package.file)
            (Path(temporary) / package.file).replace(folder / package.file)
