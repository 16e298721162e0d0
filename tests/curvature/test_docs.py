"""The method of one's own in docs/curvature.md runs and goes downhill."""

import re
from itertools import pairwise
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "curvature.md"


def test_the_example_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "import torch" in block]
    exec(example, {})
    losses = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 5
    assert all(after < before for before, after in pairwise(losses))
