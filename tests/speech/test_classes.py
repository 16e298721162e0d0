"""Classes and their phones: what is written is read, and what is wrong is named."""

from pathlib import Path

import numpy as np
import pytest

from thinwire.speech.classes import Classes, read_classes, write_classes

PHONES, POSITIONS = ("a", "a", "b", "a", "SIL", "b"), (0, 1, 0, 1, 0, 1)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_classes(tmp_path, PHONES, POSITIONS)
    found = read_classes(tmp_path)
    assert found == Classes(PHONES, POSITIONS)
    assert found.phones == ("SIL", "a", "b")
    assert found.states == (("SIL", 0), ("a", 0), ("a", 1), ("b", 0), ("b", 1))
    assert found.state_of.tolist() == [1, 2, 3, 2, 0, 4]


def test_a_folder_need_not_say_it(tmp_path: Path) -> None:
    assert read_classes(tmp_path) is None


def test_phones_begin_where_the_phone_changes_or_the_position_falls_back() -> None:
    classes = Classes(PHONES, POSITIONS)
    #                     a a a  a a  b b  SIL a
    alignment = np.array([0, 0, 3, 0, 1, 2, 5, 4, 0])
    assert classes.begins(alignment).tolist() == [0, 3, 5, 7, 8]
    assert classes.phones_in(alignment) == ["a", "a", "b", "SIL", "a"]
    assert classes.phones_in(alignment[:0]) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a line for each class, got none"),
        ("0 a 0\n2 a 1\n", "line 2: expected '1 PHONE POSITION'"),
        ("0 a\n", "line 1"),
        ("0 a x\n", "line 1"),
        ("0 a -1\n", "line 1"),
        ("0 a 16\n", "below 16"),
        ("0 a 99999999999999999999\n", "line 1"),
        ("0 a 0\n1 a 2\n", "positions 0 to 2 of phone a"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(ValueError, match=r"classes\.txt.*") as error:
        read_classes(tmp_path)
    assert said in str(error.value)
