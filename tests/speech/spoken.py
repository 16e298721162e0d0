"""A made-up corpus: phones of three states, which frames tell."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thinwire.data.kaldi import ArkWriter
from thinwire.speech.classes import write_classes

PHONES = ("SIL", "a", "b", "c")
STATES = 3
DIMENSION = 6


@dataclass(frozen=True)
class Spoken:
    """What is in the folder: features, classes and phones by utterance."""

    path: Path
    features: dict[str, NDArray[np.float32]]
    classes: dict[str, NDArray[np.int64]]
    phones: dict[str, list[str]]


def write_spoken(
    path: Path, utterances: int = 12, noise: float = 0.7, seed: int = 0, shift: int = 0
) -> Spoken:
    """Write a corpus.

    Args:
        path: of the folder.
        utterances: how many.
        noise: deviation of the frames of a state.
        seed: of what is said; centres of states are the same for all.
        shift: frames by which alignments are late.
    """
    centres = np.random.default_rng(99).normal(0, 1.5, (len(PHONES) * STATES, DIMENSION))
    rng = np.random.default_rng(seed)
    found = Spoken(path, {}, {}, {})
    for number in range(utterances):
        said = [0, *rng.integers(1, len(PHONES), rng.integers(3, 9)).tolist(), 0]
        states = [phone * STATES + state for phone in said for state in range(STATES)]
        classes = np.repeat(states, rng.integers(2, 6, len(states)))
        frames = centres[classes] + rng.normal(0, noise, (len(classes), DIMENSION))
        name = f"s{number % 3}-u{number}"
        late = np.concatenate([np.repeat(classes[:1], shift), classes])[: len(classes)]
        late[-1] = classes[-1]
        found.features[name] = frames.astype(np.float32)
        found.classes[name] = classes if not shift else late
        found.phones[name] = [PHONES[phone] for phone in said]
    with ArkWriter(path, "feats") as features, ArkWriter(path, "ali") as alignments:
        for name, values in found.features.items():
            features.matrix(name, values)
            alignments.vector(name, found.classes[name])
    lines = [f"{name} {name.partition('-')[0]}\n" for name in found.features]
    (path / "utt2spk").write_text("".join(lines))
    pairs = [(phone, state) for phone in PHONES for state in range(STATES)]
    write_classes(path, *zip(*pairs, strict=True))
    return found
