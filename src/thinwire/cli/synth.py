"""``thinwire data synth OUT``: make synthetic speech with exact labels."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from thinwire.cli.usage import FailedError, UsageError, parse, user_errors
from thinwire.speech.synth import Settings, check, make_corpus

PROG = "thinwire data synth"


def run(args: list[str]) -> int:
    """Make a corpus; returns the exit code."""
    help_wanted = args in (["-h"], ["--help"])
    if not help_wanted and (not args or args[0].startswith("-")):
        raise UsageError(f"{PROG}: expected the folder to make before all flags")
    settings = parse(Settings(), args if help_wanted else args[1:], prog=f"{PROG} OUT")
    out = Path(args[0])
    with user_errors():
        sentences = check(out, settings)
    total = settings.train_hours + settings.held_out_hours
    console = Console(stderr=True)
    with _bar(console) as bar:
        task = bar.add_task("", total=total)
        try:
            hours, seconds = make_corpus(
                out, settings, sentences, lambda done: bar.update(task, completed=min(done, total))
            )
        except (ValueError, OSError, RuntimeError) as error:
            raise FailedError(str(error)) from error
    print(
        f"{out}: {hours:.2f} hours of speech in {seconds:.1f} s, a real-time factor of "
        f"{seconds / 3600 / hours:.4f}; statistics.md says more"
    )
    return 0


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.completed:.2f} of {task.total:.2f} hours"),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
