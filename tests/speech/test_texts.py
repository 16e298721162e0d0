"""Dialogue scripts are parsed, and texts become phones."""

# ruff: noqa: RUF001 - symbols of the International Phonetic Alphabet

import pytest

from thinwire.speech.fillets.dialogues import Line, lines_with_sound, parse_script
from thinwire.speech.fillets.phones import PHONES, Speaker, fold

SCRIPT = """
-- comment
dialogId("a-m-1", "font_small", "He said \\"No\\".")
dialogStr("Řekl \\"ne\\".")

dialogId("a-v-2", "font_big",
    "Where?")
dialogStr(
"Kde?")

-- dialogId("a-v-3", "font_big", "Gone.")
-- dialogStr("Pryč.")
dialogId("a-x", "", "")
dialogStr("")
dialogId("a-lost", "font_big", "No text follows.")
"""


def test_a_script_is_parsed() -> None:
    assert parse_script(SCRIPT, "city") == [
        Line("city", "a-m-1", "small", 'Řekl "ne".'),
        Line("city", "a-v-2", "big", "Kde?"),
        Line("city", "a-x", "none", ""),
    ]


def test_lines_are_matched_with_sounds_by_room_and_name() -> None:
    files = {
        "script/city/dialogs_cs.lua": b'dialogId("a", "font_big", "")\ndialogStr("Jedna")',
        "script/cave/dialogs_cs.lua": b'dialogId("a", "font_big", "")\ndialogStr("Dva")',
        "script/share/shout_dialogs_cs.lua": b'dialogId("b", "font_big", "")\ndialogStr("Hej")',
        "script/share/intro_dialogs_cs.lua": b'dialogId("c", "font_big", "")\ndialogStr("Hm")',
        "sound/city/cs/a.ogg": b"",
        "sound/share/border/cs/b.ogg": b"",
        "sound/share/intro/cs/c.ogg": b"",
    }
    assert lines_with_sound(files) == [
        Line("city", "a", "big", "Jedna"),
        Line("share/border", "b", "big", "Hej"),
    ]


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("Ano – „prý“ ... ne?", True),
        ("Je 8 hodin", False),
        ("%1 hodin", False),
        ("rm -rf /", False),
        ("Подожди", False),
        ("...", False),
        ("", False),
    ],
)
def test_texts_that_can_be_read_in_several_ways_are_dropped(text: str, readable: bool) -> None:
    assert Line("city", "a", "big", text).readable is readable


def test_phones_are_folded() -> None:
    assert fold("ts_ˈo j_e  l_ˈo_c") == (("ts", "o"), ("j", "e"), ("l", "o", "ty"))
    assert fold("v_ d_ˈuː_v_j_e_r̝_e__") == (("v",), ("d", "uu", "v", "j", "e", "rz", "e"))
    assert fold("ˈeʊ_r_o") == (("e", "u", "r", "o"),)
    assert fold("_") == ()


def test_what_czech_lacks_is_not_folded() -> None:
    assert fold("(en)_s_ɪ_ɹ (cs)") is None
    assert fold("θ_e") is None


def test_czech_is_spoken() -> None:
    pytest.importorskip("espeakng_loader")
    speaker = Speaker()
    words = speaker.words("Co je to za divnou loď? Řeřicha.")
    assert words is not None
    assert words[0] == ("ts", "o")
    assert words[-1] == ("rz", "e", "rz", "i", "x", "a")
    assert {phone for word in words for phone in word} <= set(PHONES)
