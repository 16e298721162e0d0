"""Everything that needs a GPU, in one go: ``python -m tests.check_gpu`` (``make check-gpu``).

Runs the tests with the mark ``gpu``, then the kernels' bandwidths, and prints one table. The exit
status is 0 where all tests pass, 1 where one fails, and 2 where no CUDA device is here: nothing was
checked then.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from benchmarks.kernels import device
from benchmarks.tables import Table, number

ROOT = Path(__file__).parents[1]


def run_tests(folder: Path) -> tuple[bool, str]:
    """Whether all tests with the mark passed, and how many did what."""
    report = folder / "report.xml"
    words = ["-m", "pytest", "-m", "gpu", f"--junitxml={report}"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=False)
    if not report.exists():
        return False, f"pytest ended with status {done.returncode}"
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    total, *others = (int(suite.attrib[k]) for k in ("tests", "failures", "errors", "skipped"))
    failed, broken, skipped = others
    passed = total - sum(others)
    said = f"{passed} passed, {failed + broken} failed, {skipped} skipped"
    return done.returncode == 0 and passed > 0, said


def table(tests: str, cells: Iterable[tuple[str, dict[str, Any]]]) -> Table:
    """The tests' row, and one for each cell: its key and its settings."""
    figures = [number(name, digits) for name, (_, digits) in device.FIGURES.items()]
    rows, names = [["tests", tests]], set()
    for key, settings in cells:
        measures = device.measure(settings)
        names.add(f"{measures['device']}, {measures['kernels']}")
        rows.append([key, *(text(measures) for text in figures)])
    headings = ["", *(heading for heading, _ in device.FIGURES.values())]
    rows = [row + [""] * (len(headings) - len(row)) for row in rows]
    return Table(f"Kernels on {', '.join(sorted(names))}", headings, rows)


def main() -> int:
    if not torch.cuda.is_available():
        print("check-gpu: no CUDA device is here, so nothing was checked")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        good, said = run_tests(Path(folder))
    print(table(said, [(cell.key, cell.settings) for cell in device.cells({})]).markdown())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
