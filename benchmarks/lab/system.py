"""What the laboratory needs of the machine, and running its commands."""

import os
import shutil
import subprocess
from collections.abc import Sequence


class LabError(RuntimeError):
    """Something the user can put right; one line."""


def check_machine() -> None:
    """Raise LabError, naming the cure, unless namespaces can be made here."""
    missing = [tool for tool in ("ip", "tc", "sysctl") if shutil.which(tool) is None]
    if missing:
        raise LabError(
            f"the laboratory needs {', '.join(missing)}: install iproute2 (ip, tc) and procps "
            "(sysctl)"
        )
    if os.geteuid() != 0:
        raise LabError("the laboratory needs root, for network namespaces: run it with sudo")


def execute(command: Sequence[str]) -> str:
    """Run a command; its output.

    Raises:
        LabError: it failed; with what it said.
    """
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        said = " ".join((result.stderr or result.stdout).split())
        raise LabError(f"`{' '.join(command)}` failed ({result.returncode}): {said}")
    return result.stdout
