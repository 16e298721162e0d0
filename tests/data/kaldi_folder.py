"""Made-up folders of features and alignments, written by kaldiio."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np

DIMENSION = 5


@dataclass(frozen=True)
class Folder:
    """A folder and what stands in it.

    Attributes:
        path: of the folder.
        features: by utterance, float32 [frames, dimension].
        classes: by utterance, int32 [frames].
        speakers: by utterance.
    """

    path: Path
    features: dict[str, Any]
    classes: dict[str, Any]
    speakers: dict[str, str]

    def line(self, name: str) -> str:
        """The line of feats.scp that names an utterance."""
        lines = (self.path / "feats.scp").read_text().splitlines()
        return next(line for line in lines if line.startswith(f"{name} "))

    def rewrite(self, file: str, old: str, new: str) -> None:
        """Change a text file."""
        text = (self.path / file).read_text()
        assert old in text
        (self.path / file).write_text(text.replace(old, new, 1))


def write_folder(
    path: Path,
    lengths: tuple[int, ...] = (7, 3, 12, 1, 9, 5),
    *,
    compression: int | None = None,
    text: bool = False,
    speakers: int = 3,
    dimension: int = DIMENSION,
    seed: int = 0,
) -> Folder:
    """Utterances u0, u1, ... of some speakers; classes 0 to 3 that the features tell."""
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True, exist_ok=True)
    names = [f"u{number}" for number in range(len(lengths))]
    classes = {
        name: rng.integers(0, 4, length).astype(np.int32)
        for name, length in zip(names, lengths, strict=True)
    }
    centres = rng.normal(0, 3, (4, dimension))
    features = {
        name: (centres[of] + rng.normal(0, 1, (len(of), dimension))).astype(np.float32)
        for name, of in classes.items()
    }
    ark, scp = str(path / "raw.ark"), str(path / "feats.scp")
    kaldiio.save_ark(ark, features, scp=scp, compression_method=compression)
    if text:
        lines = [f"{name} {' '.join(map(str, of))} \n" for name, of in classes.items()]
        (path / "ali.ark").write_text("".join(lines))
    else:
        kaldiio.save_ark(str(path / "ali.ark"), classes)
    of_speaker = {name: f"s{number % speakers}" for number, name in enumerate(names)}
    lines = [f"{name} {speaker}\n" for name, speaker in of_speaker.items()]
    (path / "utt2spk").write_text("".join(lines))
    return Folder(path, features, classes, of_speaker)
