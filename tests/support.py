"""Write docs/support.md: what each front end supports and refuses, as the tests' marks say.

    python -m tests.support

A mark ``support(subject, *front_ends, refused=False, note="")`` on a test says that the test shows
it. So nothing stands in the table that no test has shown, and an empty cell is a question nobody
has asked yet.
"""

from collections import defaultdict
from pathlib import Path

import pytest

FRONT_ENDS = (
    *("OneBitSGD", "OwnerOptimizer", "LocalSteps", "DDP hook", "FSDP2", "HessianFree", "trainer"),
)
PAGE = Path(__file__).parents[1] / "docs" / "support.md"
_HEAD = """# What each front end supports and refuses

This table is made from the tests (`make support`): "yes" means that a test compares the result with
plain PyTorch's or with the exact value, "refused" that a test sees one clear error and not a wrong
result. An empty cell means that no test says anything. The optimisers are `OneBitSGD` and
`OwnerOptimizer`, the hook is `OneBitState` under DistributedDataParallel, and the trainer is
`thinwire train`.

"""


class Marks:
    """A pytest plugin that collects the marks of all tests, slow ones too."""

    def __init__(self) -> None:
        self.verdicts: dict[str, dict[str, str]] = defaultdict(dict)
        self.notes: dict[str, list[str]] = defaultdict(list)
        self.faults: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for mark in item.iter_markers("support"):
                self._add(item.nodeid, *mark.args, **mark.kwargs)

    def _add(
        self, test: str, subject: str, *front_ends: str, refused: bool = False, note: str = ""
    ) -> None:
        verdict = "refused" if refused else "yes"
        unknown = set(front_ends) - set(FRONT_ENDS)
        if unknown or not front_ends:
            self.faults.append(f"{test}: unknown front ends {sorted(unknown)}")
        for front_end in front_ends:
            if self.verdicts[subject].setdefault(front_end, verdict) != verdict:
                self.faults.append(f"{test}: {subject!r} is {verdict} and is not in another test")
        if note and note not in self.notes[subject]:
            self.notes[subject].append(note)


def page() -> str:
    """The whole page.

    Raises:
        ValueError: tests that cannot be collected, or marks that contradict each other.
    """
    marks = Marks()
    options = ["--collect-only", "-p", "no:terminal", "-o", "addopts="]
    if code := pytest.main([*options, "tests"], plugins=[marks]):
        raise ValueError(f"the tests cannot be collected: {code!r}; see pytest --collect-only")
    if marks.faults:
        raise ValueError("\n".join(marks.faults))
    titles = ["what a script does", *FRONT_ENDS, "notes"]
    rows = [titles, ["---"] * len(titles)]
    for subject, verdicts in sorted(marks.verdicts.items(), key=lambda row: row[0].lower()):
        cells = [verdicts.get(front_end, "") for front_end in FRONT_ENDS]
        rows.append([subject, *cells, "; ".join(marks.notes[subject])])
    return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE.name} written")
