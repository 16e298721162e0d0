"""Who speaks: accents of English, variants of voices, and the manner of a sentence."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Accent:
    """An accent of English.

    Attributes:
        name: in names of speakers.
        file: eSpeak's.
        rhotic: whether the r at the end of "over" is spoken.
    """

    name: str
    file: str
    rhotic: bool


ACCENTS = (
    Accent("gb", "gmw/en", False),
    Accent("rp", "gmw/en-GB-x-rp", False),
    Accent("lancaster", "gmw/en-GB-x-gbclan", False),
    Accent("midlands", "gmw/en-GB-x-gbcwmd", False),
    Accent("scotland", "gmw/en-GB-scotland", True),
    Accent("us", "gmw/en-US", True),
    Accent("nyc", "gmw/en-US-nyc", False),
    Accent("caribbean", "gmw/en-029", False),
)

# Variants of one family (Gene and Gene2) are on the same side.
TEST_VARIANTS = (
    *("Alicia", "Gene", "Gene2", "adam", "antonio", "belinda", "david", "f4", "grandpa"),
    *("m4", "m7", "quincy", "sandro"),
)
TRAIN_VARIANTS = (
    *("Alex", "Andrea", "Andy", "Annie", "AnxiousAndy", "Denis", "Diogo", "Henrique", "Hugo"),
    *("Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Mr serious", "Nguyen", "Reed"),
    *("RicishayMax", "RicishayMax2", "RicishayMax3", "Storm", "Tweaky", "anika", "announcer"),
    *("aunty", "benjamin", "boris", "caleb", "croak", "ed", "edward", "edward2", "f1", "f2", "f3"),
    *("f5", "grandma", "gustave", "ian", "iven", "iven2", "iven3", "iven4", "john", "kaukovalta"),
    *("klatt", "klatt2", "klatt3", "klatt4", "klatt5", "klatt6", "linda", "m1", "m2", "m3", "m5"),
    *("m6", "m8", "marcelo", "max", "michel", "miguel", "mike2", "norbert", "pablo", "paul"),
    *("pedro", "rob", "robert", "shelby", "steph", "steph2", "steph3", "travis", "victor", "zac"),
)


@dataclass(frozen=True)
class Manner:
    """How a sentence is spoken.

    Attributes:
        accent: the speaker's.
        variant: of the voice.
        pitch: 0 to 100; 50 is the voice's own.
        liveliness: how far the pitch moves, 0 to 100; 50 is the voice's own.
        speed: words a minute.
        gap: longer pauses between words, in steps of 10 ms at usual speed.
    """

    accent: Accent
    variant: str
    pitch: int
    liveliness: int
    speed: int
    gap: int

    @property
    def speaker(self) -> str:
        """Name the speaker: accent and voice, in one word."""
        return f"{self.accent.name}-{self.variant.replace(' ', '_')}"


def draw_manner(rng: np.random.Generator, variants: tuple[str, ...]) -> Manner:
    """Draw how a sentence is spoken, by one of these variants."""
    return Manner(
        accent=ACCENTS[rng.integers(len(ACCENTS))],
        variant=variants[rng.integers(len(variants))],
        pitch=int(rng.integers(30, 71)),
        liveliness=int(rng.integers(30, 71)),
        speed=int(rng.integers(130, 201)),
        gap=int(rng.choice([0, 0, 0, 1, 3, 6])),
    )
