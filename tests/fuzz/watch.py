"""What inputs make a process do beside reading them: an audit hook notes it."""

import os
import sys
from pathlib import Path
from typing import Any, Self

CANARY = "canary"  # a file that links point to
CODE = "canary_code"  # a module that inputs name
_RUNS = {
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty"),
    *("subprocess.Popen", "pickle.find_class", "ctypes.dlopen", "socket.connect", "pty.spawn"),
}
_CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


class Watch:
    """While entered, notes every execution and every change outside of a folder.

    Args:
        root: where inputs lie, and everything may be written but for the canary.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._on = root.resolve(), False
        self._seen: list[str] = []
        (root / CANARY).write_text("untouched")
        (root / f"{CODE}.py").write_text("run = None\n")
        sys.addaudithook(self._note)  # for good: there is no way to take it out

    def __enter__(self) -> Self:
        self._on = True
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False

    def check(self) -> None:
        """Fail if anything was noted, the canary was written to or its code was imported."""
        seen, self._seen = self._seen, []
        if seen:
            raise AssertionError(f"it made the process do: {seen[0]}")
        if (self._root / CANARY).read_text() != "untouched":
            raise AssertionError("the canary file was overwritten")
        if sys.modules.pop(CODE, None) is not None:
            raise AssertionError("code that an input names was imported")

    def _note(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._on:
            return
        changes = event in _CHANGES or (event == "open" and args[2] & _WRITING)
        if event in _RUNS or (changes and self._outside(args[0])):
            self._seen.append(f"{event} {str(args)[:200]}")

    def _outside(self, path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False  # a descriptor, which was opened before
        return not Path(os.path.realpath(os.fsdecode(path))).is_relative_to(self._root)
