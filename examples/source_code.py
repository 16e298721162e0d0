"""Arrays on disk under `thinwire train`: which package is a piece of source code from?

python source_code.py            # writes the folder source_code
thinwire data source_code
thinwire train source_code.toml

The samples are pieces of Python's own standard library, told by how often each character occurs.
"""

import sysconfig
from pathlib import Path

import numpy as np

PACKAGES = ("asyncio", "ctypes", "email", "encodings", "importlib", "logging", "multiprocessing")
PIECE = 1000  # characters


def pieces(package: str) -> list[bytes]:
    """The source code of a package, cut into pieces of equal length."""
    files = sorted((Path(sysconfig.get_path("stdlib")) / package).glob("*.py"))
    text = b"".join(file.read_bytes() for file in files)
    return [text[start : start + PIECE] for start in range(0, len(text) - PIECE, PIECE)]


def main() -> None:
    inputs, targets = [], []
    for number, package in enumerate(PACKAGES):
        for piece in pieces(package)[:300]:
            inputs.append(np.bincount(np.frombuffer(piece, np.uint8), minlength=128)[:128])
            targets.append(number)
    folder = Path("source_code")
    folder.mkdir(exist_ok=True)
    np.save(folder / "inputs.npy", np.sqrt(np.array(inputs, np.float32)))
    np.save(folder / "targets.npy", np.array(targets))
    print(f"{len(targets)} pieces of {len(PACKAGES)} packages in {folder}")


if __name__ == "__main__":
    main()
