"""The 39 phones by which results on TIMIT are told [Lee and Hon 1989]."""

from collections.abc import Sequence

_FOLDED = {
    "ao": "aa",
    "ax": "ah",
    "ax-h": "ah",
    "axr": "er",
    "el": "l",
    "em": "m",
    "en": "n",
    "nx": "n",
    "eng": "ng",
    "hv": "hh",
    "ix": "ih",
    "ux": "uw",
    "zh": "sh",
    **dict.fromkeys(
        ("pcl", "tcl", "kcl", "bcl", "dcl", "gcl", "cl", "vcl", "h#", "pau", "epi"), "sil"
    ),
}
_CLOSURES = {"bcl", "dcl", "gcl", "cl", "vcl"}  # which no other set of phones has
_DROPPED = "q"  # the glottal stop


def is_timit(phones: Sequence[str]) -> bool:
    """Tell whether phones are those of TIMIT, 61 or 48 of them: they have closures."""
    return not _CLOSURES.isdisjoint(phones)


def fold(phones: Sequence[str]) -> list[str]:
    """Fold phones of TIMIT to 39, silence among them.

    >>> fold(["h#", "sh", "ix", "dcl", "d", "q", "ao", "pau"])
    ['sil', 'sh', 'ih', 'sil', 'd', 'aa', 'sil']
    """
    return [_FOLDED.get(phone, phone) for phone in phones if phone != _DROPPED]
