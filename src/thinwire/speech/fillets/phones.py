"""Czech texts as phones, which eSpeak NG tells."""

# ruff: noqa: RUF001 - symbols of the International Phonetic Alphabet

import ctypes
import re

from thinwire.speech.espeak import library

VOICE = "cs"
_UTF_8, _IPA, _SEPARATOR = 1, 2, ord("_")
_STRESS = str.maketrans("", "", "ˈˌ")
_SWITCH = re.compile(r"\([a-z-]+\)")

# Rare ones are counted among their neighbours.
_TABLE = """
a a, e e, i i, o o, u u, aː aa, eː ee, iː ii, uː uu, oː o, oʊ ou, aʊ a+u, eʊ e+u, eɪ e+j,
ɪ i, ɪː ii, ɛ e, ɛː ee, ɔ o,
p p, b b, t t, d d, c ty, ɟ dy, k k, ɡ g, ts ts, dz d+z, tʃ ch, dʒ d+zh, dʑ d+zh,
f f, v v, s s, z z, ʃ sh, ʒ zh, x x, h h, ɣ h, r̝ rz, r̝̊ rs,
r r, r̩ r, ɹ r, l l, l̩ l, j j, m m, m̩ m, n n, ŋ n, ɲ ny
"""
_FOLDED = {symbol: tuple(phones.split("+")) for symbol, phones in map(str.split, _TABLE.split(","))}
PHONES = tuple(sorted({phone for phones in _FOLDED.values() for phone in phones}))
"""All phones, without silence."""

Words = tuple[tuple[str, ...], ...]


def fold(spoken: str) -> Words | None:
    """Return the phones of each word.

    Args:
        spoken: symbols of the International Phonetic Alphabet, "_" between those of a word.

    Returns:
        None if there is a symbol that Czech lacks, or a part in another language.

    >>> fold("d_ˈo n_ˈeɪ_")
    (('d', 'o'), ('n', 'e', 'j'))
    """
    if _SWITCH.search(spoken):
        return None
    words = []
    for word in spoken.translate(_STRESS).split():
        symbols = [symbol for symbol in word.split("_") if symbol]
        if not all(symbol in _FOLDED for symbol in symbols):
            return None
        words.append(tuple(phone for symbol in symbols for phone in _FOLDED[symbol]))
    return tuple(word for word in words if word)


class Speaker:
    """Tells how Czech texts are said.

    Raises:
        MissingPackageError: espeakng-loader is not installed.
        RuntimeError: eSpeak NG lacks Czech.
    """

    def __init__(self) -> None:
        self._library = library()
        if self._library.espeak_SetVoiceByName(VOICE.encode()) != 0:
            raise RuntimeError(f"eSpeak NG has no voice {VOICE!r}, expected one")
        self._translate = self._library.espeak_TextToPhonemes
        self._translate.restype = ctypes.c_char_p
        self._translate.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int]

    def words(self, text: str) -> Words | None:
        """Return the phones of each word; None as `fold`."""
        buffer = ctypes.create_string_buffer(text.encode())
        rest = ctypes.c_void_p(ctypes.addressof(buffer))
        clauses = []
        while rest.value:  # each call translates a clause
            said = self._translate(ctypes.byref(rest), _UTF_8, _IPA | _SEPARATOR << 8)
            clauses.append((said or b"").decode())
        return fold(" ".join(clauses))
