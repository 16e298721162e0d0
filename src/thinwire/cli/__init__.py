"""The ``thinwire`` command; ``COMMANDS`` has all that it can do."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version

from thinwire.cli.usage import FailedError, UsageError, nearest, one_line
from thinwire.needed import MissingPackageError, missing

# Each command is a module of this package with a function run(args); imported when it is called.
COMMANDS = {
    "train": "train a recipe: thinwire train mnist-onebit --workers 4",
    "compare": "train several recipes and report: thinwire compare mnist-sgd mnist-hf-cg",
    "report": "compare runs in one page or table: thinwire report RUN...",
    "follow": "hand a run to TensorBoard or W&B: thinwire follow RUN --tensorboard DIR",
    "plan": "how many workers pay: thinwire plan --calibrate, then thinwire plan",
    "forward": "log-likelihoods of speech, for Kaldi: thinwire forward RUN FOLDER --out DIR",
    "decode": "the phone error of a network: thinwire decode RUN FOLDER",
    "align": "align speech anew by a trained network: thinwire align RUN --out DIR",
    "data": "what a data set holds; find or fetch one: thinwire data mnist",
    "doctor": "what this installation can do",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; those of the process by default.

    Returns:
        The exit code: 0, 1 for a failure, 2 for a mistake in what was asked, 130 if interrupted.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    command = args.pop(0) if args else "--help"
    if command in ("-h", "--help", "help"):
        print(_help())
        return 0
    if command == "--version":
        print(version("thinwire"))
        return 0
    try:
        if command not in COMMANDS:
            raise UsageError(f"no command {command!r}{nearest(command, COMMANDS)}; see --help")
        try:
            run: Callable[[list[str]], int] = import_module(f"thinwire.cli.{command}").run
            return run(args)
        except ModuleNotFoundError as error:
            raise missing(error) from None
    except (UsageError, FailedError, MissingPackageError) as error:
        print(f"thinwire {one_line(command)}: {one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130


def _help() -> str:
    lines = [f"  {name:8} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        ["usage: thinwire COMMAND ...", "", *lines, "", "thinwire COMMAND --help says more."]
    )
