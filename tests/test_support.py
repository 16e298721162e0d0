"""docs/support.md says what the marks of the tests say."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import PAGE


@pytest.mark.slow
def test_the_page_is_what_the_marks_say() -> None:
    # In a process of its own: pytest within pytest shares too much.
    command = [sys.executable, "-c", "from tests.support import page; print(page(), end='')"]
    root = Path(__file__).parents[1]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert made.stdout == PAGE.read_text(), "run `make support`"
