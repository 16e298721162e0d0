"""The dialogue scripts: which text belongs to which sound, and whose voice it is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_STRING = r'"((?:[^"\\]|\\.)*)"'
_LINE = re.compile(
    rf"^[ \t]*dialogId\(\s*{_STRING}\s*,\s*{_STRING}\s*,\s*{_STRING}\s*\)\s*"
    rf"dialogStr\(\s*{_STRING}\s*\)",
    re.MULTILINE,
)
_SHARED = {
    "black_dialogs_cs.lua": "share/blackjokes",
    "bore_dialogs_cs.lua": "share/borejokes",
    "border_dialogs_cs.lua": "share/border",
    "shout_dialogs_cs.lua": "share/border",
}
# Digits, formats, commands and other alphabets are read in ways that nobody can know.
_READABLE = re.compile(r"[A-Za-zÁČĎÉĚÍŇÓŘŠŤÚŮÝŽáčďéěíňóřšťúůýž ,.!?;:'’\"„”“…–-]+")  # noqa: RUF001


@dataclass(frozen=True)
class Line:
    """A line of dialogue.

    Attributes:
        room: the folder of its sound, under sound/.
        name: of its sound, without suffix.
        role: who says it, "small" for font_small; "none" if the script does not say.
        text: in Czech.
    """

    room: str
    name: str
    role: str
    text: str

    @property
    def sound(self) -> str:
        """The name of its sound file."""
        return f"sound/{self.room}/cs/{self.name}.ogg"

    @property
    def readable(self) -> bool:
        """Whether how it is said follows from its text."""
        return _READABLE.fullmatch(self.text) is not None and any(map(str.isalpha, self.text))


def parse_script(script: str, room: str) -> list[Line]:
    """Return the lines of a dialogue script, in order.

    >>> parse_script('dialogId("a-m", "font_small", "Yes.") dialogStr("Ano.")', "city")
    [Line(room='city', name='a-m', role='small', text='Ano.')]
    """
    return [
        Line(room, name, font.removeprefix("font_") or "none", text.replace("\\", "").strip())
        for name, font, _, text in _LINE.findall(script)
    ]


def lines_with_sound(files: Mapping[str, bytes]) -> list[Line]:
    """Return the lines that have a sound, ordered by room and name; of several the first.

    Args:
        files: contents by name, as `packages.read_packages` returns them.
    """
    found: dict[tuple[str, str], Line] = {}
    for path in sorted(name for name in files if name.startswith("script/")):
        _, folder, file = path.split("/")
        room = _SHARED.get(file) if folder == "share" else folder
        if room is None:
            continue
        for line in parse_script(files[path].decode("utf-8", "replace"), room):
            if line.sound in files:
                found.setdefault((line.room, line.name), line)
    return [found[key] for key in sorted(found)]
