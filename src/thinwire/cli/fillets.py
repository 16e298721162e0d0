"""``thinwire data fillets OUT``: build the corpus of human speech."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from thinwire.cli.usage import UsageError, parse, user_errors
from thinwire.speech.fillets import Settings, build

USAGE = """usage: thinwire data fillets OUT [--from PATH] [--states N]

Builds a corpus of human speech in folder OUT, of the Debian packages fillets-ng-data-cs and
fillets-ng-data (GPL-2): frames and labels of Czech, mostly of two speakers. PATH is a folder with
the two .deb files or with their content; without it apt-get fetches them. N classes, 1000 by
default. Rerun the command to resume."""


@dataclass(frozen=True)
class _Arguments:
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    states: int = Settings.states


def run(args: list[str]) -> int:
    """Build the corpus and show its statistics; returns the exit code."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if args else 2
    if args[0].startswith("-"):
        raise UsageError(f"thinwire data fillets: expected a folder to write to, got {args[0]!r}")
    fields = parse(_Arguments(), args[1:], prog="thinwire data fillets OUT")
    console = Console()
    with user_errors(), _Shown(console) as shown:
        text = build(Path(args[0]), fields.source, Settings(fields.states), print, shown.tell)
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text)
    return 0


class _Shown:
    """A bar for the stage that runs, on a terminal; a line for each stage elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1.0)

    def tell(self, stage: str, share: float) -> None:
        """Show which stage runs and which part of it is done."""
        if stage != self._stage:
            self._stage = stage
            self._bar.reset(self._task, description=stage)
            if not self._console.is_terminal:
                print(stage, flush=True)
        self._bar.update(self._task, completed=share)

    def __enter__(self) -> "_Shown":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
