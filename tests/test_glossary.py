"""The glossary and the decisions name modules; all of them exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "thinwire"
MODULE = re.compile(r"`([a-z_]+(?:/[a-z0-9_]+)+|ddp)`")


def exists(module: str) -> bool:
    path = PACKAGE / module
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("page", ["glossary.md", "decisions.md"])
def test_every_module_that_is_named_exists(page: str) -> None:
    named = MODULE.findall((ROOT / "docs" / page).read_text())
    assert named
    assert [module for module in named if not exists(module)] == []


def test_every_word_of_the_glossary_says_where_it_lives() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    entries = dict(
        re.findall(r"^\*\*(.+?)\.\*\* (.+?)(?=^\*\*|^#|\Z)", text, re.MULTILINE | re.DOTALL)
    )
    assert len(entries) > 40
    homeless = {word for word, entry in entries.items() if not MODULE.search(entry)}
    assert homeless == set()
