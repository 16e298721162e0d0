"""From the names that eSpeak NG has for sounds of English to about forty phones."""

from thinwire.speech.classes import SILENCE

_TABLE = {
    "AA": "0 A: A@ A",
    "AE": "a aa",
    "AH": "V",
    "AO": "O: O@ o@ O O2",
    "AW": "aU aU@",
    "AX": "@ @2 @5 @- a#",
    "AY": "aI aI2 aI3 aI@",
    "B": "b",
    "CH": "tS",
    "D": "d t# d# d[",
    "DH": "D",
    "EH": "E e@ E2",
    "EL": "@L",
    "ER": "3: VR IR",
    "EY": "eI e: e",
    "F": "f",
    "G": "g",
    "HH": "h C",
    "IH": "I I2 I# i@ i@3",
    "IY": "i: i",
    "JH": "dZ",
    "K": "k x k#",
    "L": "l l# l^",
    "M": "m m-",
    "N": "n n- n^",
    "NG": "N",
    "OW": "oU o: o",
    "OY": "OI",
    "P": "p",
    "R": "r r- r/ R",
    "S": "s s# s;",
    "SH": "S S;",
    "T": "t t2 t[ ?",
    "TH": "T",
    "UH": "U U@",
    "UW": "u: u",
    "V": "v v#",
    "W": "w w#",
    "Y": "j ; y",
    "Z": "z z# z;",
    "ZH": "Z Z;",
}
PHONES = (*_TABLE, SILENCE)
"""All phones; that of silence is the last."""

_STRESS = "',%=\""
_NUMBER = {name: PHONES.index(phone) for phone, names in _TABLE.items() for name in names.split()}
_WEAK_R = "3"  # the end of "over": with an r in it or without, as the accent has it


def phone_number(name: str, rhotic: bool) -> int | None:
    """Return the number in ``PHONES`` of a sound; None for one that is not known.

    Args:
        name: eSpeak's, marks of stress included. Names of pauses begin with an underscore, and
            one that is empty is silence, too.
        rhotic: the accent speaks the r at the end of "over".

    >>> PHONES[phone_number("'eI", True)], PHONES[phone_number("3", False)]
    ('EY', 'AX')
    """
    plain = name.lstrip(_STRESS)
    if not plain or plain.startswith("_"):
        return PHONES.index(SILENCE)
    if plain == _WEAK_R:
        return PHONES.index("ER" if rhotic else "AX")
    return _NUMBER.get(plain)
